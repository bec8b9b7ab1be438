/* CRC-32 and a 64-bit content hash. */
#include <string.h>
#include "base/file.h"

/* Little-endian loads from any address; compilers make one instruction of each. */
static inline uint32_t load32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? v : __builtin_bswap32(v);
}

static inline uint64_t load64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? v : __builtin_bswap64(v);
}

/* CRC-32 of zlib and PNG: reflected polynomial 0xEDB88320, eight bytes a step ("slicing by 8", Intel 2006).
 * Table k maps a byte to its CRC after k further zero bytes. The map is linear over GF(2), so eight constants
 * a table, the images of the single bits, make all 256 entries. */
#define PICK(i, bit, c) ((((i) >> (bit)) & 1u) * (c))
#define ENTRY(i, a, b, c, d, e, f, g, h)                                                                     \
    (PICK(i, 0, a) ^ PICK(i, 1, b) ^ PICK(i, 2, c) ^ PICK(i, 3, d) ^ PICK(i, 4, e) ^ PICK(i, 5, f) ^         \
     PICK(i, 6, g) ^ PICK(i, 7, h))
#define ROW4(i, ...)                                                                                         \
    ENTRY((i), __VA_ARGS__), ENTRY((i) + 1u, __VA_ARGS__), ENTRY((i) + 2u, __VA_ARGS__),                     \
        ENTRY((i) + 3u, __VA_ARGS__)
#define ROW16(i, ...)                                                                                        \
    ROW4((i), __VA_ARGS__), ROW4((i) + 4u, __VA_ARGS__), ROW4((i) + 8u, __VA_ARGS__),                        \
        ROW4((i) + 12u, __VA_ARGS__)
#define ROW64(i, ...)                                                                                        \
    ROW16((i), __VA_ARGS__), ROW16((i) + 16u, __VA_ARGS__), ROW16((i) + 32u, __VA_ARGS__),                   \
        ROW16((i) + 48u, __VA_ARGS__)
#define SLICE(...)                                                                                           \
    {                                                                                                        \
        ROW64(0u, __VA_ARGS__), ROW64(64u, __VA_ARGS__), ROW64(128u, __VA_ARGS__), ROW64(192u, __VA_ARGS__)  \
    }

static const uint32_t crc_table[8][256] = {
    SLICE(0x77073096, 0xEE0E612C, 0x076DC419, 0x0EDB8832, 0x1DB71064, 0x3B6E20C8, 0x76DC4190, 0xEDB88320),
    SLICE(0x191B3141, 0x32366282, 0x646CC504, 0xC8D98A08, 0x4AC21251, 0x958424A2, 0xF0794F05, 0x3B83984B),
    SLICE(0x01C26A37, 0x0384D46E, 0x0709A8DC, 0x0E1351B8, 0x1C26A370, 0x384D46E0, 0x709A8DC0, 0xE1351B80),
    SLICE(0xB8BC6765, 0xAA09C88B, 0x8F629757, 0xC5B428EF, 0x5019579F, 0xA032AF3E, 0x9B14583D, 0xED59B63B),
    SLICE(0x3D6029B0, 0x7AC05360, 0xF580A6C0, 0x30704BC1, 0x60E09782, 0xC1C12F04, 0x58F35849, 0xB1E6B092),
    SLICE(0xCB5CD3A5, 0x4DC8A10B, 0x9B914216, 0xEC53826D, 0x03D6029B, 0x07AC0536, 0x0F580A6C, 0x1EB014D8),
    SLICE(0xA6770BB4, 0x979F1129, 0xF44F2413, 0x33EF4E67, 0x67DE9CCE, 0xCFBD399C, 0x440B7579, 0x8816EAF2),
    SLICE(0xCCAA009E, 0x4225077D, 0x844A0EFA, 0xD3E51BB5, 0x7CBB312B, 0xF9766256, 0x299DC2ED, 0x533B85DA),
};

uint32_t b2_crc32(uint32_t crc, const void *data, size_t n)
{
    const uint8_t *p = data;
    const uint32_t(*t)[256] = crc_table;
    crc = ~crc;
    for (; n >= 8; n -= 8, p += 8) {
        uint32_t a = crc ^ load32(p), b = load32(p + 4);
        crc = t[7][a & 255] ^ t[6][a >> 8 & 255] ^ t[5][a >> 16 & 255] ^ t[4][a >> 24] ^ t[3][b & 255] ^
              t[2][b >> 8 & 255] ^ t[1][b >> 16 & 255] ^ t[0][b >> 24];
    }
    while (n--) crc = crc >> 8 ^ t[0][(crc ^ *p++) & 255];
    return ~crc;
}

/* XXH64 as its public specification defines it (Y. Collet, xxHash: doc/xxhash_spec.md): four lanes of 8
 * bytes, then the rest by 8, 4 and 1, then an avalanche. The value does not depend on the machine. */
#define P1 0x9E3779B185EBCA87u
#define P2 0xC2B2AE3D27D4EB4Fu
#define P3 0x165667B19E3779F9u
#define P4 0x85EBCA77C2B2AE63u
#define P5 0x27D4EB2F165667C5u

static uint64_t rotl64(uint64_t x, int r) { return x << r | x >> (64 - r); }

static uint64_t lane(uint64_t acc, uint64_t in) { return rotl64(acc + in * P2, 31) * P1; }

static uint64_t fold(uint64_t h, uint64_t acc) { return (h ^ lane(0, acc)) * P1 + P4; }

/* Consumes whole blocks of 32 bytes. */
static uint64_t blocks(uint64_t seed, const uint8_t *p, size_t n)
{
    uint64_t a = seed + P1 + P2, b = seed + P2, c = seed, d = seed - P1;
    for (; n >= 32; n -= 32, p += 32) {
        a = lane(a, load64(p));
        b = lane(b, load64(p + 8));
        c = lane(c, load64(p + 16));
        d = lane(d, load64(p + 24));
    }
    uint64_t h = rotl64(a, 1) + rotl64(b, 7) + rotl64(c, 12) + rotl64(d, 18);
    return fold(fold(fold(fold(h, a), b), c), d);
}

uint64_t b2_hash64(uint64_t seed, const void *data, size_t n)
{
    const uint8_t *p = data;
    uint64_t h = n >= 32 ? blocks(seed, p, n) : seed + P5;
    h += n;
    if (n >= 32) p += n & ~(size_t)31;
    n &= 31;
    for (; n >= 8; n -= 8, p += 8) h = rotl64(h ^ lane(0, load64(p)), 27) * P1 + P4;
    for (; n >= 4; n -= 4, p += 4) h = rotl64(h ^ load32(p) * P1, 23) * P2 + P3;
    for (; n; n--, p++) h = rotl64(h ^ *p * P5, 11) * P1;
    h = (h ^ h >> 33) * P2;
    h = (h ^ h >> 29) * P3;
    return h ^ h >> 32;
}
