/* Sizes, formatting and opening: everything that is checked once. */
#include "core.h"

#include <string.h>

#define PAGE 4096u

static uint64_t round_up(uint64_t value, uint64_t unit) { return (value + unit - 1) & ~(unit - 1); }

/* Every offset follows from the configuration, so a header that says another one lies. */
typedef struct {
    uint64_t marks, stamps, meta, slots, bytes;
    uint32_t stride;
} rc_places;

static int rc_check(const rc_config *c) {
    if (c->kind != RC_GATED && c->kind != RC_BROADCAST) return RC_INVALID;
    if (c->capabilities & ~(uint32_t)RC_CAP_ALL || c->wait > RC_PARK) return RC_INVALID;
    if (c->stages < 1 || c->stages > RC_STAGES) return RC_INVALID;
    if (c->capacity < 1 || c->capacity > RC_MAX_CAPACITY || (c->capacity & (c->capacity - 1))) return RC_INVALID;
    if (c->slot_bytes < 1 || c->slot_bytes > RC_MAX_SLOT || c->meta_bytes > RC_MAX_META) return RC_INVALID;
    if (c->filters >> c->stages || !c->filters != !(c->capabilities & RC_CAP_MARKS)) return RC_INVALID;
    for (uint32_t i = 0; i < RC_STAGES; i++) {
        if (c->deps[i] >> i) return RC_INVALID; /* only earlier stages: no cycle can be written down */
        if (i >= c->stages && c->deps[i]) return RC_INVALID;
        if (c->kind == RC_BROADCAST && c->deps[i]) return RC_INVALID;
    }
    /* A broadcast never waits, so nothing can be refused, and a mark could be overwritten under its reader. */
    if (c->kind == RC_BROADCAST && c->capabilities & (RC_CAP_MULTI | RC_CAP_MARKS | RC_CAP_DROP)) return RC_INVALID;
    return RC_OK;
}

static void rc_place(const rc_config *c, rc_places *p) {
    bool fixed = c->capabilities & RC_CAP_FIXED;
    bool stamps = c->kind == RC_BROADCAST || c->capabilities & RC_CAP_MULTI;
    p->stride = (uint32_t)round_up(c->slot_bytes, 8) + (fixed ? 0 : 8);
    p->marks = round_up(sizeof(rc_layout), RC_LINE);
    p->stamps = round_up(p->marks + (c->capabilities & RC_CAP_MARKS ? c->stages * c->capacity : 0), RC_LINE);
    p->meta = round_up(p->stamps + (stamps ? 8 * c->capacity : 0), RC_LINE);
    p->slots = round_up(p->meta + c->meta_bytes, PAGE);
    p->bytes = round_up(p->slots + c->capacity * p->stride, PAGE); /* < 2^52: no sum here can wrap */
}

int rc_size(const rc_config *config, uint64_t *bytes) {
    int answer = rc_check(config);
    if (answer) return answer;
    rc_places p;
    rc_place(config, &p);
    *bytes = p.bytes;
    return RC_OK;
}

int rc_format(void *memory, uint64_t bytes, const rc_config *config) {
    uint64_t needed;
    int answer = rc_size(config, &needed);
    if (answer) return answer;
    if (bytes < needed) return RC_SIZE_BAD;
    rc_places p;
    rc_place(config, &p);
    rc_layout *at = memory;
    rc_header *h = &at->header;
    /* Relaxed: who sees 1 refuses, whatever else it sees. */
    atomic_store_explicit(&h->initialized, 1, memory_order_relaxed);
    h->magic = RC_MAGIC;
    h->version = RC_VERSION;
    h->kind = (uint16_t)config->kind;
    h->capabilities = config->capabilities;
    h->layout_bytes = (uint32_t)sizeof(rc_layout);
    h->stages = config->stages;
    h->capacity = config->capacity;
    h->slot_bytes = config->slot_bytes;
    h->stride = p.stride;
    h->mapped_bytes = p.bytes;
    h->marks_off = p.marks;
    h->stamps_off = p.stamps;
    h->meta_off = p.meta;
    h->slots_off = p.slots;
    h->meta_bytes = config->meta_bytes;
    h->wait = config->wait;
    h->created_unix_ns = rc_unix_ns();
    h->filters = config->filters;
    memcpy(h->spec_sha256, config->spec_sha256, sizeof h->spec_sha256);
    memcpy(h->deps, config->deps, sizeof h->deps);
    if (config->meta_bytes) memcpy((uint8_t *)memory + p.meta, config->meta, config->meta_bytes);
    for (uint32_t i = 0; i < config->stages; i++)
        atomic_store_explicit(&at->cells[RC_CELL_STAGE + i].active, 1, memory_order_relaxed);
    /* Release: who sees 2 (acquire in rc_open) sees every field above. */
    atomic_store_explicit(&h->initialized, 2, memory_order_release);
    return RC_OK;
}

int rc_open(rc_ring *ring, void *memory, uint64_t bytes) {
    memset(ring, 0, sizeof *ring);
    if (bytes < sizeof(rc_layout)) return RC_SIZE_BAD;
    rc_layout *at = memory;
    /* Acquire: pairs with the last store of rc_format. */
    uint32_t initialized = atomic_load_explicit(&at->header.initialized, memory_order_acquire);
    rc_header h;
    memcpy(&h, &at->header, sizeof h); /* one reading; a header that changes under us is judged as it was copied */
    if (h.magic != RC_MAGIC) return RC_MAGIC_BAD;
    if (h.version != RC_VERSION) return RC_VERSION_BAD;
    if (initialized != 2) return RC_NOT_READY;
    rc_config c = {.kind = h.kind, .capabilities = h.capabilities, .wait = h.wait, .stages = h.stages, .filters = h.filters,
                   .capacity = h.capacity, .slot_bytes = h.slot_bytes, .meta_bytes = h.meta_bytes};
    memcpy(c.deps, h.deps, sizeof c.deps);
    if (rc_check(&c)) return RC_CORRUPT;
    rc_places p;
    rc_place(&c, &p);
    if (h.layout_bytes != sizeof(rc_layout) || h.stride != p.stride || h.marks_off != p.marks || h.stamps_off != p.stamps ||
        h.meta_off != p.meta || h.slots_off != p.slots || h.mapped_bytes != p.bytes)
        return RC_CORRUPT;
    if (bytes < p.bytes) return RC_SIZE_BAD;
    for (size_t i = 0; i < sizeof h.reserved; i++)
        if (h.reserved[i]) return RC_CORRUPT;
    ring->at = at;
    ring->marks = (uint8_t *)memory + p.marks;
    ring->stamps = (_Atomic uint64_t *)(void *)((uint8_t *)memory + p.stamps);
    ring->meta = (const uint8_t *)memory + p.meta;
    ring->slots = (uint8_t *)memory + p.slots;
    ring->capacity = c.capacity;
    ring->mask = c.capacity - 1;
    ring->mapped_bytes = p.bytes;
    ring->slot_bytes = c.slot_bytes;
    ring->stride = p.stride;
    ring->stages = c.stages;
    ring->kind = c.kind;
    ring->capabilities = c.capabilities;
    ring->wait = c.wait;
    ring->meta_bytes = c.meta_bytes;
    ring->filters = (uint16_t)c.filters;
    ring->created_unix_ns = h.created_unix_ns;
    memcpy(ring->spec_sha256, h.spec_sha256, sizeof ring->spec_sha256);
    uint16_t needed = 0, upstream[RC_STAGES] = {0};
    for (uint32_t i = 0; i < c.stages; i++) {
        ring->deps[i] = c.deps[i];
        upstream[i] = c.deps[i];
        for (uint32_t j = 0; j < i; j++)
            if (c.deps[i] >> j & 1) upstream[i] |= upstream[j];
        ring->above[i] = (uint16_t)(upstream[i] & c.filters);
        needed |= c.deps[i];
    }
    ring->final_mask = (uint16_t)((1u << c.stages) - 1) & (uint16_t)~needed;
    return RC_OK;
}
