/* One end of a ring by Xen's own macros. See main.rs, which compiles and runs it. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* The header of older Xen takes these for its own. */
#define mb() __sync_synchronize()
#define rmb() __sync_synchronize()
#define wmb() __sync_synchronize()
#define xen_mb() mb()
#define xen_rmb() rmb()
#define xen_wmb() wmb()
#include <xen/xen.h>
#include <xen/grant_table.h>
#include <xen/io/ring.h>
#include <xen/io/blkif.h>

DEFINE_XEN_FLEX_RING_AND_INTF(stream);

static _Alignas(4096) unsigned char memory[32 * 4096];

static void ask(blkif_request_t *req, uint64_t n)
{
    unsigned int i;

    memset(req, 0, sizeof(*req));
    if (n % 3 == 2) {
        blkif_request_discard_t *discard = (void *)req;
        discard->operation = BLKIF_OP_DISCARD;
        discard->flag = BLKIF_DISCARD_SECURE;
        discard->handle = 51712;
        discard->id = n;
        discard->sector_number = 77 + (n << 33);
        discard->nr_sectors = (uint64_t)5 << 32;
        return;
    }
    req->operation = n % 3 == 0 ? BLKIF_OP_READ : BLKIF_OP_WRITE;
    req->nr_segments = n % 12;
    req->handle = 51712;
    req->id = n;
    req->sector_number = 77 + (n << 33);
    for (i = 0; i < req->nr_segments; i++) {
        req->seg[i].gref = 1000 + i;
        req->seg[i].first_sect = i % 4;
        req->seg[i].last_sect = 4 + i % 4;
    }
}

static void answer(blkif_response_t *rsp, uint64_t n)
{
    memset(rsp, 0, sizeof(*rsp));
    rsp->id = n;
    rsp->operation = n % 7;
    rsp->status = -(int)(n % 3);
}

int main(int argc, char **argv)
{
    const char *what = argv[1];
    uint32_t argument[3] = { 0 };
    size_t size = fread(memory, 1, sizeof(memory), stdin);
    struct blkif_sring *sring = (void *)memory;
    struct blkif_front_ring front;
    struct blkif_back_ring back;
    int i, notify = 0;

    for (i = 2; i < argc && i < 5; i++)
        argument[i - 2] = strtoul(argv[i], NULL, 10);

    if (!strcmp(what, "slots")) {
        FRONT_RING_INIT(&front, sring, size);
        fprintf(stderr, "%u\n", RING_SIZE(&front));
    } else if (!strcmp(what, "ask")) {
        XEN_FRONT_RING_INIT(&front, sring, size);
        for (i = 0; !RING_FULL(&front); i++)
            ask(RING_GET_REQUEST(&front, front.req_prod_pvt++), i);
        if (i != (int)argument[0])
            return 1;
        RING_PUSH_REQUESTS_AND_CHECK_NOTIFY(&front, notify);
        fprintf(stderr, "%d\n", notify);
    } else if (!strcmp(what, "hear")) {
        FRONT_RING_INIT(&front, sring, size);
        while (RING_HAS_UNCONSUMED_RESPONSES(&front)) {
            blkif_response_t rsp;
            RING_COPY_RESPONSE(&front, front.rsp_cons++, &rsp);
            fprintf(stderr, "%llu %u %d\n", (unsigned long long)rsp.id, rsp.operation, -rsp.status);
        }
    } else if (!strcmp(what, "answer")) {
        int wrong = 0;
        BACK_RING_INIT(&back, sring, size);
        for (i = 0; RING_HAS_UNCONSUMED_REQUESTS(&back); i++) {
            blkif_request_t req, expected;
            RING_COPY_REQUEST(&back, back.req_cons++, &req);
            ask(&expected, i);
            wrong += !!memcmp(&req, &expected, sizeof(req));
            answer(RING_GET_RESPONSE(&back, back.rsp_prod_pvt++), i);
        }
        wrong += i != (int)argument[0];
        RING_PUSH_RESPONSES_AND_CHECK_NOTIFY(&back, notify);
        fprintf(stderr, "%d %d\n", wrong, notify);
    } else if (!strcmp(what, "notify")) {
        BACK_RING_ATTACH(&back, sring, argument[0], size);
        back.rsp_prod_pvt += argument[1];
        RING_PUSH_RESPONSES_AND_CHECK_NOTIFY(&back, notify);
        fprintf(stderr, "%d\n", notify);
    } else if (!strcmp(what, "echo")) {
        struct stream_data_intf *intf = (void *)memory;
        unsigned char *in = memory + 4096, *out, *copy;
        RING_IDX ring = XEN_FLEX_RING_SIZE(intf->ring_order), queued, masked_prod, masked_cons;

        out = in + ring;
        queued = stream_queued(intf->out_prod, intf->out_cons, ring);
        copy = malloc(queued);
        masked_prod = stream_mask(intf->out_prod, ring);
        masked_cons = stream_mask(intf->out_cons, ring);
        stream_read_packet(copy, out, queued, masked_prod, &masked_cons, ring);
        intf->out_cons += queued;
        masked_prod = stream_mask(intf->in_prod, ring);
        masked_cons = stream_mask(intf->in_cons, ring);
        stream_write_packet(in, copy, queued, &masked_prod, masked_cons, ring);
        intf->in_prod += queued;
        fprintf(stderr, "%u %u %u\n", queued, intf->ring_order, intf->ref[(1 << intf->ring_order) - 1]);
    } else {
        return 2;
    }
    return fwrite(memory, 1, size, stdout) == size ? 0 : 3;
}
