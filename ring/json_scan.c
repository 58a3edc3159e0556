#include "json_scan.h"

#include <stdbool.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "plain() finds the first byte of a word by its lowest bit"
#endif

/* Rules.
 * 1. `depth` containers are open; bit i of `objects` says that the one at depth i + 1 is an object. No recursion.
 * 2. `level` names of the path are behind us: the object in which the next one is looked for is open at depth level + 1. There is
 *    at most one such object for each level in a text, because a second one would need a duplicate; so `seen` is never cleared.
 * 3. Bytes may change under us (the ring is shared memory): bounds come from `at` and `end` only, never from a byte read twice. */
typedef struct {
    const js_query *query;
    const uint8_t *at, *end;
    uint64_t objects;
    uint32_t depth, level, seen;
    bool enter;  /* the value due is the one of a name on the path, and not the last */
    bool asked;  /* the value due is the one asked for */
    bool answer;
} js_scan;

/* A string compared piece by piece while it is decoded. */
typedef struct {
    const uint8_t *rest;
    size_t length;
    bool equal;
} js_wanted;

static void js_compare(js_wanted *wanted, const uint8_t *piece, size_t length) {
    if (!wanted || !wanted->equal) return;
    wanted->equal = length <= wanted->length && memcmp(wanted->rest, piece, length) == 0;
    if (!wanted->equal) return;
    wanted->rest += length;
    wanted->length -= length;
}

/* Length of the UTF-8 sequence at `p`; 0: none (RFC 3629, section 4). */
static size_t js_utf8(const uint8_t *p, const uint8_t *end) {
    size_t room = (size_t)(end - p);
    uint8_t first = room ? p[0] : 0xff, second = room > 1 ? p[1] : 0;
    if (first < 0x80) return 1;
    if (first < 0xc2 || first > 0xf4) return 0;
    uint8_t least = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80, most = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
    size_t length = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    if (second < least || second > most || room < length) return 0;
    for (size_t i = 2; i < length; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    return length;
}

/* The first byte that is a quote, a backslash, a control or not ASCII. Eight at once: a borrow only spoils bytes above a hit. */
static const uint8_t *js_plain(const uint8_t *p, const uint8_t *end) {
    const uint64_t ones = 0x0101010101010101u, tops = 0x80 * ones;
    for (; end - p >= 8; p += 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        uint64_t quote = word ^ '"' * ones, slash = word ^ '\\' * ones;
        uint64_t hit = ((quote - ones) & ~quote) | ((slash - ones) & ~slash) | ((word - ' ' * ones) & ~word) | word;
        if (hit & tops) return p + (__builtin_ctzll(hit & tops) >> 3);
    }
    while (p < end && *p >= ' ' && *p < 0x80 && *p != '"' && *p != '\\') p++;
    return p;
}

static int js_hex4(js_scan *s, uint32_t *unit) {
    if (s->end - s->at < 4) return JS_SYNTAX;
    *unit = 0;
    for (int i = 0; i < 4; i++) {
        uint8_t c = *s->at++, letter = (uint8_t)((c | 0x20) - 'a');
        if (c >= '0' && c <= '9') *unit = *unit << 4 | (uint32_t)(c - '0');
        else if (letter < 6) *unit = *unit << 4 | (uint32_t)(letter + 10);
        else return JS_SYNTAX;
    }
    return 0;
}

/* After a backslash: one character, as UTF-8. */
static int js_escape(js_scan *s, js_wanted *wanted) {
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (s->at == s->end) return JS_SYNTAX;
    uint8_t c = *s->at++, out[4];
    if (c != 'u') {
        const char *found = memchr(from, c, sizeof from - 1);
        if (!found) return JS_SYNTAX;
        out[0] = (uint8_t)to[found - from];
        js_compare(wanted, out, 1);
        return 0;
    }
    uint32_t code, low;
    int error = js_hex4(s, &code);
    if (error) return error;
    if (code >= 0xdc00 && code < 0xe000) return JS_UTF8;
    if (code >= 0xd800 && code < 0xdc00) {
        if (s->end - s->at < 2 || s->at[0] != '\\' || s->at[1] != 'u') return JS_UTF8;
        s->at += 2;
        if ((error = js_hex4(s, &low))) return error;
        if (low < 0xdc00 || low > 0xdfff) return JS_UTF8;
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    }
    size_t length = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    static const uint8_t lead[5] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = length; i-- > 1; code >>= 6) out[i] = (uint8_t)(0x80 | (code & 0x3f));
    out[0] = (uint8_t)(lead[length] | code);
    js_compare(wanted, out, length);
    return 0;
}

/* From the opening quote to after the closing one. */
static int js_string(js_scan *s, js_wanted *wanted) {
    for (s->at++;;) {
        const uint8_t *piece = s->at;
        size_t more = 1;
        for (s->at = js_plain(s->at, s->end); s->at < s->end && *s->at >= 0x80; s->at = js_plain(s->at + more, s->end))
            if (!(more = js_utf8(s->at, s->end))) return JS_UTF8;
        js_compare(wanted, piece, (size_t)(s->at - piece));
        if (s->at == s->end) return JS_SYNTAX;
        uint8_t c = *s->at++;
        if (c == '"') break;
        if (c != '\\') return JS_SYNTAX; /* a control character */
        int error = js_escape(s, wanted);
        if (error) return error;
    }
    if (wanted && wanted->length) wanted->equal = false;
    return 0;
}

static void js_space(js_scan *s) {
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\n' || *s->at == '\r' || *s->at == '\t')) s->at++;
}

static bool js_taken(js_scan *s, uint8_t c) {
    if (s->at == s->end || *s->at != c) return false;
    s->at++;
    return true;
}

static bool js_digits(js_scan *s) {
    const uint8_t *first = s->at;
    while (s->at < s->end && *s->at >= '0' && *s->at <= '9') s->at++;
    return s->at != first;
}

static bool js_number(js_scan *s) {
    js_taken(s, '-');
    if (!js_taken(s, '0') && !js_digits(s)) return false;
    if (js_taken(s, '.') && !js_digits(s)) return false;
    if (!js_taken(s, 'e') && !js_taken(s, 'E')) return true;
    if (!js_taken(s, '+')) js_taken(s, '-');
    return js_digits(s);
}

static bool js_word(js_scan *s, const char *text) {
    size_t length = strlen(text);
    if ((size_t)(s->end - s->at) < length || memcmp(s->at, text, length) != 0) return false;
    s->at += length;
    return true;
}

/* A member's name and colon; decides whether the value after it is on the path. */
static int js_name(js_scan *s) {
    const js_query *query = s->query;
    bool look = s->depth == s->level + 1; /* rule 2; the root is then an object, because a name is due */
    js_wanted wanted = {query->text + query->name_at[s->level], query->name_length[s->level], true};
    js_space(s);
    if (s->at == s->end || *s->at != '"') return JS_SYNTAX;
    int error = js_string(s, look ? &wanted : NULL);
    if (error) return error;
    if (look && wanted.equal) {
        if (s->seen >> s->level & 1) return JS_DUPLICATE;
        s->seen |= 1u << s->level;
        s->asked = s->level + 1 == query->names;
        s->enter = !s->asked;
    }
    js_space(s);
    return js_taken(s, ':') ? 0 : JS_SYNTAX;
}

static bool js_in_object(const js_scan *s) { return s->objects >> (s->depth - 1) & 1; }

static int js_open(js_scan *s) {
    if (s->depth == JS_DEPTH) return JS_NESTING;
    uint64_t bit = 1ull << s->depth++;
    bool object = *s->at++ == '{';
    s->objects = object ? s->objects | bit : s->objects & ~bit;
    if (object && s->enter) s->level++;
    s->enter = s->asked = false;
    return 0;
}

static void js_close(js_scan *s) {
    if (s->level && s->depth == s->level + 1) s->level--;
    s->depth--;
}

/* A value that is no container. */
static int js_scalar(js_scan *s) {
    const uint8_t *first = s->at;
    const js_query *query = s->query;
    js_wanted wanted = {query->text + query->value_at, query->value_length, true};
    bool asked = s->asked;
    s->enter = s->asked = false;
    if (*s->at == '"') {
        int error = js_string(s, asked ? &wanted : NULL);
        if (error) return error;
    } else {
        if (!js_word(s, "true") && !js_word(s, "false") && !js_word(s, "null") && !js_number(s)) return JS_SYNTAX;
        size_t length = (size_t)(s->at - first);
        wanted.equal = length == wanted.length && memcmp(first, wanted.rest, length) == 0;
    }
    if (asked) s->answer = wanted.equal;
    return 0;
}

/* What may stand after a value: closings, then a comma. 1: another value is due; 0: the text's value is over. */
static int js_after(js_scan *s) {
    for (; s->depth; js_close(s)) {
        js_space(s);
        if (js_taken(s, ',')) return 1;
        if (!js_taken(s, js_in_object(s) ? '}' : ']')) return JS_SYNTAX;
    }
    return 0;
}

int js_match(const js_query *query, const uint8_t *text, size_t length) {
    js_scan s = {.query = query, .at = text, .end = text + length};
    int more = 1;
    js_space(&s);
    bool object = s.at < s.end && *s.at == '{';
    while (more) {
        if (s.depth && js_in_object(&s) && (more = js_name(&s)) < 0) return more;
        js_space(&s);
        if (s.at == s.end) return JS_SYNTAX;
        if (*s.at == '{' || *s.at == '[') {
            if ((more = js_open(&s)) < 0) return more;
            js_space(&s);
            more = s.at == s.end || *s.at != (js_in_object(&s) ? '}' : ']');
            if (more) continue;
        } else if ((more = js_scalar(&s)) < 0) {
            return more;
        }
        if ((more = js_after(&s)) < 0) return more;
    }
    js_space(&s);
    if (s.at != s.end) return JS_SYNTAX;
    return object ? s.answer : JS_OBJECT;
}

static bool js_all_utf8(const char *text, size_t length) {
    const uint8_t *p = (const uint8_t *)text, *end = p + length;
    for (size_t n; p < end; p += n)
        if (!(n = js_utf8(p, end))) return false;
    return true;
}

int js_query_set(js_query *query, const char *path, size_t path_length, const char *value, size_t value_length) {
    memset(query, 0, sizeof *query);
    if (path_length > JS_TEXT || value_length > JS_TEXT - path_length) return JS_RULE;
    if (!js_all_utf8(path, path_length) || !js_all_utf8(value, value_length)) return JS_RULE;
    memcpy(query->text, path, path_length);
    memcpy(query->text + path_length, value, value_length);
    query->value_at = (uint16_t)path_length;
    query->value_length = (uint32_t)value_length;
    uint32_t names = 0;
    for (size_t first = 0, i = 0; i <= path_length; i++) {
        if (i < path_length && path[i] != '.') continue;
        if (i == first || names == JS_NAMES) return JS_RULE;
        query->name_at[names] = (uint16_t)first;
        query->name_length[names++] = (uint16_t)(i - first);
        first = i + 1;
    }
    query->names = names;
    return 0;
}
