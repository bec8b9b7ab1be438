/* Running spm_train, whose messages are shown only when it fails. */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "examples/init_model/spm_train.h"

extern char **environ;

static void show_log(const char *scratch)
{
    char line[512], *path = format_text("%s/log", scratch);
    FILE *f = path ? fopen(path, "re") : NULL;
    free(path);
    if (!f) return;
    fseek(f, 0, SEEK_END);
    long from = ftell(f) - 2000;
    fseek(f, from > 0 ? from : 0, SEEK_SET);
    while (fgets(line, sizeof line, f)) fprintf(stderr, "  %s", line);
    fclose(f);
}

/* In the scratch folder with plain names: paths go into the model file, which would differ from run to run.
 */
static int start(char *const argv[], const char *scratch, pid_t *child)
{
    posix_spawn_file_actions_t files;
    int e = posix_spawn_file_actions_init(&files);
    if (e) return e;
    e = posix_spawn_file_actions_addchdir_np(&files, scratch);
    if (!e)
        e = posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "log", O_WRONLY | O_CREAT | O_TRUNC,
                                             0600);
    if (!e) e = posix_spawn_file_actions_adddup2(&files, STDOUT_FILENO, STDERR_FILENO);
    if (!e) e = posix_spawnp(child, argv[0], &files, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&files);
    return e;
}

static int run(const program *p, char *const argv[], const char *scratch)
{
    pid_t child;
    int state = 0, e = start(argv, scratch, &child);
    if (!e)
        while (waitpid(child, &state, 0) < 0 && errno == EINTR) continue;
    if (e == ENOENT || (!e && WIFEXITED(state) && WEXITSTATUS(state) == 127))
        return failure(p, EXIT_USAGE, "--tokenizer-text needs spm_train: apt-get install -y sentencepiece");
    if (e) return failure(p, EXIT_FAILED, "spm_train: %s", strerror(e));
    if (WIFEXITED(state) && WEXITSTATUS(state) == 0) return -1;
    failure(p, EXIT_DATA, "spm_train failed; its last words:");
    show_log(scratch);
    return EXIT_DATA;
}

int tokenizer_train(const program *p, const char *text, int64_t pieces, const char *scratch, char **path)
{
    char *full = realpath(text, NULL), *link = format_text("%s/text", scratch);
    char *size = format_text("--vocab_size=%lld", (long long)pieces);
    int code = -1;
    *path = format_text("%s/spiece.model", scratch);
    if (!full)
        code = failure(p, EXIT_DATA, "%s: %s", text, strerror(errno));
    else if (!link || !size || !*path)
        code = failure(p, EXIT_FAILED, "out of memory");
    else if (symlink(full, link))
        code = failure(p, EXIT_FAILED, "%s: %s", link, strerror(errno));
    if (code < 0) {
        char *argv[] = {"spm_train",
                        "--input=text",
                        "--model_prefix=spiece",
                        size,
                        "--model_type=unigram",
                        "--hard_vocab_limit=false",
                        "--pad_id=0",
                        "--eos_id=1",
                        "--unk_id=2",
                        "--bos_id=-1",
                        "--normalization_rule_name=nmt_nfkc",
                        "--character_coverage=1.0",
                        "--num_threads=1",
                        NULL};
        code = run(p, argv, scratch);
    }
    free(full);
    free(link);
    free(size);
    return code;
}

void tokenizer_clean(const char *scratch)
{
    static const char *const name[] = {"text", "log", "spiece.model", "spiece.vocab"};
    for (size_t i = 0; i < sizeof name / sizeof *name; i++) {
        char *path = format_text("%s/%s", scratch, name[i]);
        if (path) unlink(path);
        free(path);
    }
    rmdir(scratch);
}
