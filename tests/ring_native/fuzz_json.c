/* The JSON scanner on any bytes: clang -fsanitize=fuzzer,address,undefined -DLIBFUZZER -I ring tests/ring_native/fuzz_json.c ring/json_scan.c
 * Without LIBFUZZER a driver of its own: `fuzz_json SEED COUNT` mutates texts in the same order each time.
 *
 * What must hold beside "no wild access": an answer is one of the list; whether a text is JSON does not depend on the question; spaces
 * around a text change nothing. */
#include "json_scan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const questions[][2] = {{"a", "x"}, {"a.b", "1.5"}, {"zz.zz.zz", ""}};
    uint8_t *text = malloc(size + 1), *spaced = malloc(size + 2); /* allocated to the byte: the sanitizer sees one too far */
    if (!text || !spaced) abort();
    memcpy(text, data, size);
    text = realloc(text, size ? size : 1);
    spaced[0] = '\n';
    if (size) memcpy(spaced + 1, data, size);
    spaced[size + 1] = ' ';
    int first = 0;
    for (int i = 0; i < 3; i++) {
        js_query query;
        if (js_query_set(&query, questions[i][0], strlen(questions[i][0]), questions[i][1], strlen(questions[i][1]))) abort();
        int answer = js_match(&query, text, size), error = answer < 0 && answer != JS_DUPLICATE ? answer : 0;
        if (answer < JS_UTF8 || answer > 1 || answer != js_match(&query, spaced, size + 2)) abort();
        /* A duplicate is found before what comes after it, so only texts without one can be compared. */
        if (i && first != JS_DUPLICATE && answer != JS_DUPLICATE && error != (first < 0 ? first : 0)) abort();
        if (!i || answer == JS_DUPLICATE) first = answer;
    }
    free(text);
    free(spaced);
    return 0;
}

#ifndef LIBFUZZER
static uint64_t state;

static uint32_t drawn(uint32_t below) { /* xorshift64* */
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (uint32_t)(state * 0x2545f4914f6cdd1dull >> 33) % below;
}

int main(int count, char **argv) {
    static const char *const seeds[] = {
        "{\"a\":\"x\",\"b\":[1,-2.5e+3,true,false,null,{}]}", "{\"a\":{\"b\":1.5,\"c\":\"\\u00e9\\ud83d\\ude00\\n\"}}", "[[[[[[]]]]]]",
        "{\"a\":\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\",\"zz\":{\"zz\":{\"zz\":\"\"}}}", "{\"a\":1,\"a\":2}", "\"text\"", "0", " { } "};
    static const char *const pieces[] = {"{", "}", "[", "]", ",", ":", "\"", "\\", "\\u", "\\ud800", "\\udc00", "\"a\":", "\"b\":", "1", "-",
        ".", "e", "true", "null", "\x80", "\xc3", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xef\xbb\xbf", " ", "\t", "{\"a\":", "[[[[[[[["};
    if (count != 3) return 2;
    state = strtoull(argv[1], NULL, 10) * 2 + 1;
    uint8_t text[512];
    for (unsigned long left = strtoul(argv[2], NULL, 10); left; left--) {
        const char *seed = seeds[drawn(sizeof seeds / sizeof *seeds)];
        size_t length = strlen(seed);
        memcpy(text, seed, length);
        for (uint32_t edits = drawn(12); edits; edits--) {
            const char *piece = pieces[drawn(sizeof pieces / sizeof *pieces)];
            size_t at = drawn((uint32_t)length + 1), cut = drawn(3), put = drawn(4) ? strlen(piece) : 0;
            if (cut > length - at) cut = length - at;
            if (length + put > sizeof text) break;
            memmove(text + at + put, text + at + cut, length - at - cut);
            memcpy(text + at, piece, put);
            length += put - cut;
            if (length && drawn(4) == 0) text[drawn((uint32_t)length)] = (uint8_t)drawn(256);
        }
        LLVMFuzzerTestOneInput(text, length);
    }
    return 0;
}
#endif
