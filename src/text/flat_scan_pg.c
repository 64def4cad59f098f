/*
 * flat_scan_pg.c
 *	  millrace_flat: the nearest first.
 *
 * A search goes in steps, each of which costs one pass over the index:
 *
 *	by signs     the best k by the estimates of all vectors' signs (those that earlier steps
 *	             took are left out), for each the lower bound of its distance from its bytes;
 *	             k is millrace.flat_candidates, then seven times what was taken so far
 *	by bytes     once that would be a good part of the index, or more than work_mem, or signs
 *	             have no more: the k lowest bounds among all vectors not given out, again and
 *	             again, until none is left
 *
 * In between, vectors are given out in the order of their bounds, of the first kind of step no
 * more than an eighth of what was taken: beyond, some that were not taken might be nearer.  The
 * executor computes distances and puts rows in their order by xs_recheckorderby.  So the first
 * few are very nearly surely the nearest, and whoever asks for more (a filter, say) gets, in the
 * end, every row, from the steps by bytes in the true order.  A small index is searched by
 * bytes at once: exactly.
 *
 * Memory is that of a list of bounds within work_mem, and a bit per vector.  No lock or pin is
 * kept between calls.
 */
#include "postgres.h"

#include <math.h>

#include "access/genam.h"
#include "access/relscan.h"
#include "core/compat.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/buf_internals.h"
#include "text/flat_heap.h"
#include "text/flat_pg.h"
#include "utils/float.h"
#include "utils/memutils.h"

#define GIVEN_SHARE	8			/* of the candidates taken by signs, one in so many is given out */
#define BYTES_SHARE	8			/* a step that takes one in so many vectors takes them by bytes */
#define AHEAD		4			/* candidates whose bytes are on their way from memory */

typedef struct flat_search
{
	MemoryContext cxt;			/* everything below but itself; reset for each search */
	flat_layout l;
	sim_query  *query;			/* NULL: the vector was NULL, or the index is empty */
	uint32		sign_pages;		/* when it began: later vectors are invisible to it */
	uint32		turn;			/* changes from search to search */
	bool		by_bytes;		/* further steps are of that kind */
	bool		all;			/* the last step left nothing */
	sim_candidate least;		/* of the last step by signs, the last */
	uint64		taken;			/* vectors by signs */
	uint64		n_given;		/* vectors given out */
	uint64		step;			/* vectors that the last step by bytes could take */
	flat_bound *heap;			/* to be given out, the least first */
	size_t		n,
				room;
	uint8	   *given;			/* a bit per vector */
} flat_search;

static uint32 turns;			/* searches of this process */

IndexScanDesc
flat_begin_scan(Relation index, int nkeys, int norderbys)
{
	IndexScanDesc scan = RelationGetIndexScan(index, nkeys, norderbys);
	flat_search *s = palloc0(sizeof *s);

	s->cxt = AllocSetContextCreate(CurrentMemoryContext, "millrace_flat search", ALLOCSET_DEFAULT_SIZES);
	scan->opaque = s;
	scan->xs_orderbyvals = palloc0(sizeof(Datum) * Max(norderbys, 1));
	scan->xs_orderbynulls = palloc0(sizeof(bool) * Max(norderbys, 1));
	return scan;
}

void
flat_rescan(IndexScanDesc scan, ScanKey keys, int nkeys, ScanKey orderbys, int norderbys)
{
	flat_search *s = scan->opaque;
	MemoryContext cxt = s->cxt;

	if (orderbys && scan->numberOfOrderBys > 0)
		memmove(scan->orderByData, orderbys, scan->numberOfOrderBys * sizeof(ScanKeyData));
	MemoryContextReset(cxt);
	memset(s, 0, sizeof *s);
	s->cxt = cxt;
	s->least = (sim_candidate) {.estimate = -INFINITY};
}

/* Room for at least n bounds. */
static void
make_room(flat_search *s, size_t n)
{
	if (n <= s->room)
		return;
	s->heap = s->heap ? repalloc_huge(s->heap, n * sizeof *s->heap) :
		MemoryContextAllocHuge(s->cxt, n * sizeof *s->heap);
	s->room = n;
}

/* Where a search begins: its query and the extent of the index. */
static void
start(IndexScanDesc scan, flat_search *s)
{
	ScanKey		key = scan->orderByData;
	const float *vector = NULL;
	int			n = 0;

	flat_count_search(scan);
	flat_choose_kernels();
	s->sign_pages = flat_meta_read(scan->indexRelation).sign_pages;
	if (s->sign_pages == 0)
		s->all = true;
	if (!(key->sk_flags & SK_ISNULL))
		vector = flat_vector(key->sk_argument, &n);
	s->l = flat_layout_get(scan->indexRelation);
	if (vector && s->l.sim.n > 0)
	{
		flat_check_dimension(scan->indexRelation, &s->l, n);
		s->query = sim_prepare(&s->l.sim, vector, (void *) TYPEALIGN(64, palloc(sim_query_size(n) + 64)));
	}
	s->l.sim.centre = NULL;		/* the relation cache's */
	s->turn = turns++;
	s->given = palloc0(((uint64) s->sign_pages * s->l.places + 7) / 8);
}

/* A NULL vector has the distance NULL to all: bounds do not matter. */
static inline double
bound(const flat_search *s, const void *code)
{
	double		d = s->query ? sim_lower_bound(s->query, code) : 0;

	return isnan(d) ? INFINITY : d; /* the length 0's comes last, with the rows */
}

static int
by_number(const void *a, const void *b)
{
	uint32		x = ((const sim_candidate *) a)->number,
				y = ((const sim_candidate *) b)->number;

	return x < y ? -1 : x > y;
}

/*
 * Pin a block.  Looked for where it was last, it costs no look in the table of all buffers.  But
 * that does not count as use of the buffer: one block in 32, others each time, is asked for
 * properly, so that an index that is searched stays.
 */
static Buffer
pin(Relation index, const flat_search *s, Buffer *hints, BlockNumber block)
{
	if (!hints)
		return ReadBuffer(index, block);
	if (!BufferIsValid(hints[block]) || (block + s->turn) % 32 == 0 || !flat_recent_buffer(index, block, hints[block]))
		hints[block] = ReadBuffer(index, block);
	return hints[block];
}

/*
 * Have some bytes of a block that will be needed soon on their way from memory.  Always inlined: gcc drops calls of
 * a function that does nothing but this.
 */
static pg_attribute_always_inline void
expect(const Buffer *hints, BlockNumber block, size_t at, size_t n)
{
	if (hints && BufferIsValid(hints[block]))
	{
		char	   *first = (char *) BufferGetPage(hints[block]) + at;

		__builtin_prefetch(GetBufferDescriptor(hints[block] - 1), 1);
		for (size_t i = 0; i < n; i += 64)
			__builtin_prefetch(first + i);
		__builtin_prefetch(first + n - 1);
	}
}

/* Append the bounds of n candidates, in the order of their numbers. */
static void
add_bounds(Relation index, flat_search *s, Buffer *hints, const sim_candidate *list, size_t n)
{
	const flat_layout *l = &s->l;

	for (size_t i = 0; i < n; i++)
	{
		BlockNumber block = flat_code_block(l, list[i].number);
		Buffer		buffer;

		CHECK_FOR_INTERRUPTS();
		if (i + AHEAD < n)
			expect(hints, flat_code_block(l, list[i + AHEAD].number), flat_code_at(l, list[i + AHEAD].number), l->code_size);
		buffer = pin(index, s, hints, block);
		LockBuffer(buffer, BUFFER_LOCK_SHARE);
		s->heap[s->n++] = (flat_bound) {.bound = bound(s, (char *) BufferGetPage(buffer) + flat_code_at(l, list[i].number)),
			.number = list[i].number};
		UnlockReleaseBuffer(buffer);
	}
}

/* Take the k next by their signs. */
static void
step_by_signs(Relation index, flat_search *s, size_t k)
{
	const flat_layout *l = &s->l;
	size_t		room = 2 * k + l->places;
	sim_best	best;
	sim_candidate *list = MemoryContextAllocHuge(s->cxt, room * sizeof *list);
	Buffer	   *hints = flat_hints(index, flat_end_block(l, s->sign_pages));
	size_t		n;

	sim_best_init(&best, list, room, k);
	for (uint32 i = 0; i < s->sign_pages; i++)
	{
		Buffer		buffer;
		Page		page;
		int			n_blocks;

		CHECK_FOR_INTERRUPTS();
		if (i + 1 < s->sign_pages)
			expect(hints, flat_sign_block(l, i + 1), FLAT_START, 64);
		buffer = pin(index, s, hints, flat_sign_block(l, i));
		LockBuffer(buffer, BUFFER_LOCK_SHARE);
		page = BufferGetPage(buffer);
		n_blocks = (flat_page_tail(page)->used + SIM_BLOCK - 1) / SIM_BLOCK;

		/* a block of the next page for one of this: all at once would be more than can be under way */
		for (int b = 0; b < n_blocks; b++)
		{
			size_t		at = FLAT_START + b * l->block_size;

			if (i + 1 < s->sign_pages)
				expect(hints, flat_sign_block(l, i + 1), at, l->block_size);
			sim_best_scan(&best, s->query, (char *) page + at, l->block_size, 1, i * (uint32) l->places + b * SIM_BLOCK, s->least);
		}
		UnlockReleaseBuffer(buffer);
	}
	n = sim_best_finish(&best);
	s->taken += n;
	s->by_bytes = n < k;		/* signs have no more to say */
	if (n > 0)
		s->least = list[n - 1];

	qsort(list, n, sizeof *list, by_number);	/* pages in order */
	make_room(s, s->n + n);
	add_bounds(index, s, hints, list, n);
	pfree(list);
	flat_heapify(s->heap, s->n);
}

/* The vectors of sign page i that are there and were not given out. */
static int
waiting(Relation index, const flat_search *s, uint32 i, uint32 *numbers)
{
	Buffer		buffer = ReadBuffer(index, flat_sign_block(&s->l, i));
	Page		page = BufferGetPage(buffer);
	ItemPointer tids;
	int			used,
				n = 0;

	CHECK_FOR_INTERRUPTS();
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	tids = flat_tids(&s->l, page);
	used = flat_page_tail(page)->used;
	for (int place = 0; place < used; place++)
	{
		uint32		number = i * (uint32) s->l.places + place;

		if (ItemPointerIsValid(&tids[place]) && !(s->given[number / 8] >> number % 8 & 1))
			numbers[n++] = number;
	}
	UnlockReleaseBuffer(buffer);
	return n;
}

/*
 * Keep the k lowest bounds of all that were not given out.  While they are looked for, the heap
 * has bounds with their signs turned, so that the highest one kept is on top.
 */
static void
step_by_bytes(Relation index, flat_search *s, size_t k)
{
	const flat_layout *l = &s->l;
	uint32	   *numbers = MemoryContextAlloc(s->cxt, l->places * sizeof *numbers);

	s->n = 0;
	s->all = true;
	make_room(s, k);
	for (uint32 i = 0; i < s->sign_pages; i++)
	{
		int			n = waiting(index, s, i, numbers);

		for (int j = 0; j < n; j++)
		{
			BlockNumber block = flat_code_block(l, numbers[j]);
			Buffer		buffer = ReadBuffer(index, block);

			CHECK_FOR_INTERRUPTS();
			LockBuffer(buffer, BUFFER_LOCK_SHARE);
			for (;; j++)
			{
				flat_bound	b = {.bound = -bound(s, (char *) BufferGetPage(buffer) + flat_code_at(l, numbers[j])),
				.number = numbers[j]};

				if (s->n < k)
					flat_heap_push(s->heap, &s->n, b);
				else
				{
					s->all = false;
					if (b.bound > s->heap[0].bound)
						flat_heap_replace(s->heap, s->n, b);
				}
				if (j + 1 == n || flat_code_block(l, numbers[j + 1]) != block)
					break;
			}
			UnlockReleaseBuffer(buffer);
		}
	}
	pfree(numbers);
	for (size_t i = 0; i < s->n; i++)
		s->heap[i].bound = -s->heap[i].bound;
	flat_heapify(s->heap, s->n);
}

/* Look for more: signs for a few, bytes for many. */
static void
next_step(Relation index, flat_search *s)
{
	uint64		total = (uint64) s->sign_pages * s->l.places;
	uint64		most = Max((uint64) work_mem * 1024 / sizeof(flat_bound), 1024);
	uint64		k = s->taken == 0 ? flat_candidates(index, s->l.sim.n) : 7 * s->taken;

	/* a step by signs needs twice the room for its list, too */
	if (s->query && !s->by_bytes && k < total / BYTES_SHARE && s->taken + 2 * k <= most)
	{
		step_by_signs(index, s, k);
		return;
	}
	s->by_bytes = true;
	s->step = Min(Max(8 * k, 8 * s->step), Min(total, most));
	step_by_bytes(index, s, s->step);
}

/* Look for more first, rather than give out another one? */
static bool
wants_step(const flat_search *s)
{
	if (s->all)
		return false;
	return s->n == 0 || (!s->by_bytes && s->n_given >= s->taken / GIVEN_SHARE);
}

bool
flat_get_tuple(IndexScanDesc scan, ScanDirection direction)
{
	flat_search *s = scan->opaque;
	Relation	index = scan->indexRelation;
	MemoryContext caller;

	if (scan->numberOfOrderBys != 1 || ScanDirectionIsBackward(direction))
		elog(ERROR, "index \"%s\" is searched in the order of a distance, forwards", RelationGetRelationName(index));
	if (!s->given)
	{
		caller = MemoryContextSwitchTo(s->cxt);
		start(scan, s);
		MemoryContextSwitchTo(caller);
	}
	for (;;)
	{
		flat_bound	b;
		Buffer		buffer;
		ItemPointerData tid;

		while (wants_step(s))
			next_step(index, s);
		if (s->n == 0)
			return false;
		b = flat_heap_pop(s->heap, &s->n);
		s->n_given++;
		s->given[b.number / 8] |= 1 << b.number % 8;

		buffer = ReadBuffer(index, flat_sign_block(&s->l, b.number / s->l.places));
		LockBuffer(buffer, BUFFER_LOCK_SHARE);
		tid = flat_tids(&s->l, BufferGetPage(buffer))[b.number % s->l.places];
		UnlockReleaseBuffer(buffer);
		if (!ItemPointerIsValid(&tid))
			continue;			/* vacuumed away meanwhile */
		scan->xs_heaptid = tid;
		scan->xs_recheck = false;
		scan->xs_recheckorderby = true;
		scan->xs_orderbyvals[0] = Float8GetDatum(b.bound);
		scan->xs_orderbynulls[0] = s->query == NULL;
		return true;
	}
}

void
flat_end_scan(IndexScanDesc scan)
{
	flat_search *s = scan->opaque;

	MemoryContextDelete(s->cxt);
	pfree(s);
	scan->opaque = NULL;
}
