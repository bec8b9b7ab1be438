"""Runs the command-line programs and reads what they write."""
import json
import os
import subprocess

from safetensors.torch import load_file


class ProgramError(Exception):
    pass


class Programs:
    def __init__(self, folder, threads=2):
        self.folder, self.threads = os.path.abspath(folder), threads

    def exists(self, name):
        return os.access(os.path.join(self.folder, name), os.X_OK)

    def library(self):
        lib = os.path.join(os.path.dirname(self.folder), "lib")
        return sorted(os.path.join(lib, f) for f in os.listdir(lib) if f.startswith("libblip2.so"))[0]

    def run(self, name, *args, input=None):
        line = [os.path.join(self.folder, name), *map(str, args)]
        p = subprocess.run(line, input=input, capture_output=True, timeout=600)
        if p.returncode:
            raise ProgramError(f"{' '.join(line)[:400]}\nexit code {p.returncode}: {p.stderr.decode(errors='replace')[-1500:]}")
        return p.stdout.decode()

    def version(self):
        return self.run("vqa", "--version").strip()

    def vqa(self, model, images, questions, *args, adapter=None, threads=None):
        """→ the JSON lines, in order: every image meets every question."""
        line = ["--model", model, "--json", "--threads", threads or self.threads]
        for i in images:
            line += ["--image", i]
        for q in questions:
            line += ["--question", q]
        if adapter:
            line += ["--adapter", adapter]
        return [json.loads(x) for x in self.run("vqa", *line, *args).splitlines()]

    def trace(self, model, image, question, path, *args, adapter=None):
        """→ the answer and the activations of one image and one question (None: captioning)."""
        answer = self.vqa(model, [image], [] if question is None else [question], "--trace", path, *args, adapter=adapter)
        return answer[0], load_file(path)

    def train(self, model, images, csv, output, *args):
        """→ the lines of metrics.jsonl."""
        self.run("train_fashion", "--model", model, "--images", images, "--train", csv, "--output", output, "--threads",
                 self.threads, *args)
        with open(os.path.join(output, "metrics.jsonl")) as f:
            return [json.loads(line) for line in f if line.strip()]

    def adapter_info(self, model, adapter):
        return json.loads(self.run("adapter", "info", "--model", model, "--adapter", adapter, "--json"))

    def adapter_merge(self, model, adapter, output, *args):
        return self.run("adapter", "merge", "--model", model, "--adapter", adapter, "--output", output, *args)
