/* One question about one JSON text: is the member at this path equal to this value? Answered in one pass, no allocation.
 *
 * The whole text is validated (RFC 8259 and 3629), whatever the answer: a text that a stricter reader downstream would refuse must
 * not slip through because the member came early. Stricter than the RFC where readers differ (as RFC 7493, I-JSON): a lone
 * surrogate escape is an error, and so is a second member of a name on the path. Other duplicates are nobody's business here.
 */
#ifndef MUNIMENT_RING_JSON_SCAN_H
#define MUNIMENT_RING_JSON_SCAN_H

#include <stddef.h>
#include <stdint.h>

#define JS_DEPTH 64u /* open arrays and objects */
#define JS_NAMES 16u /* names of a path */
#define JS_TEXT 512u /* bytes of path and value together */

/* Errors, negative answers of js_match. */
enum {
    JS_SYNTAX = -1,    /* not JSON: also a byte order mark, an empty text, anything after the value */
    JS_OBJECT = -2,    /* JSON, but no object */
    JS_DUPLICATE = -3, /* a name on the path twice in its object: which one counts depends on the reader */
    JS_NESTING = -4,   /* more than JS_DEPTH */
    JS_UTF8 = -5,      /* not UTF-8, or a lone surrogate escape */
    JS_RULE = -6       /* js_query_set: an empty or oversized path, name or value, or not UTF-8 */
};

typedef struct js_query {
    uint32_t names, value_length;
    uint16_t name_at[JS_NAMES], name_length[JS_NAMES], value_at;
    uint8_t text[JS_TEXT]; /* UTF-8, not terminated */
} js_query;

/* `path`: names joined by dots ("data.kind"); a name with a dot in it cannot be asked for. `value` may be empty: the empty string.
 * 0 or JS_RULE. */
int js_query_set(js_query *query, const char *path, size_t path_length, const char *value, size_t value_length);

/* 1: there is such a member and it is the string `value` (escapes decoded), or the number, true, false or null written as
 * `value`. 0: absent, other, an object or an array. Negative: an error. */
int js_match(const js_query *query, const uint8_t *text, size_t length);

#endif
