/*
 * cache_pg.c
 *	  Answers of detectors, kept for all sessions: the least recently used goes.
 *
 * A small block of shared memory (core/shared_pg.h) names one dynamic segment,
 * which whoever comes first makes and pins: with and without preload, on a
 * standby and in parallel workers the same.  It never grows: its size is that of
 * millrace.detection_cache_size when it was made.
 *
 * The segment is an array of slots.  An entry is a chain of them, its head in
 * the first; links are slot numbers, since every process maps the segment
 * elsewhere.  Keys are hashes, so their first bytes choose the bucket.
 *
 * Lock: the block's LWLock, exclusively, for whatever looks at block or slots: a
 * hit moves its entry to the front.  Nothing under it can throw.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "core/shared_pg.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "quality/cache_pg.h"
#include "storage/dsm.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(millrace_detection_cache_statistics);
PG_FUNCTION_INFO_V1(millrace_clear_detection_cache);

#define SLOT_SIZE 512
#define ROOM (SLOT_SIZE - 8)	/* of a slot for an entry's bytes */
#define NONE (-1)

typedef struct cache_slot
{
	int32		next;			/* of the entry's chain, or of the free ones */
	int32		unused;
	char		bytes[ROOM];
} cache_slot;

/* Begins an entry's bytes; its detections follow. */
typedef struct cache_entry
{
	uint8		key[QLT_KEY_SIZE];
	int32		in_bucket;		/* the next one there */
	int32		newer,
				older;
	int32		n_slots;
	int32		width,
				height,
				n;
} cache_entry;

typedef struct cache_block
{
	mr_shared_head head;
	dsm_handle	segment;		/* 0: not made yet */
	int32		n_slots;
	int32		n_buckets;
	int32		free;			/* slots */
	int32		n_free;
	int32		newest,
				oldest;
	int64		entries;
	int64		hits,
				misses,
				evicted;
	TimestampTz since;
} cache_block;

static int	cache_kb;			/* millrace.detection_cache_size */
static cache_block *block;
static int32 *buckets;			/* in the segment, before the slots */
static cache_slot *slots;
static bool unavailable;		/* this process could not have it */

void
qlt_cache_init(void)
{
	DefineCustomIntVariable("millrace.detection_cache_size",
							"Shared memory for what detectors saw in images; 0: nothing is kept.",
							"Taken when it is first needed; another size counts from the next start of the server. "
							"A session that sets 0 neither looks nor keeps.",
							&cache_kb, 16 * 1024, 0, 1024 * 1024,
							PGC_SUSET, GUC_UNIT_KB, NULL, NULL, NULL);
	if (process_shared_preload_libraries_in_progress)
		mr_shared_reserve(sizeof(cache_block));
}

bool
qlt_cache_wanted(void)
{
	return cache_kb > 0;
}

/* ---- the segment ---- */

/* Empty it: counters stay. */
static void
clear(void)
{
	for (int i = 0; i < block->n_buckets; i++)
		buckets[i] = NONE;
	for (int i = 0; i < block->n_slots; i++)
		slots[i].next = i + 1 < block->n_slots ? i + 1 : NONE;
	block->free = 0;
	block->n_free = block->n_slots;
	block->newest = block->oldest = NONE;
	block->entries = 0;
}

/* A segment of the wanted size; NULL if the system has none.  No resource owner: it
 * outlives the transaction, and so does what is left of a failure. */
static dsm_segment *
make_segment(int *n_slots)
{
	ResourceOwner owner = CurrentResourceOwner;
	MemoryContext cxt = CurrentMemoryContext;
	dsm_segment *volatile segment = NULL;

	*n_slots = (int) ((int64) cache_kb * 1024 / (SLOT_SIZE + sizeof(int32)));
	CurrentResourceOwner = NULL;
	PG_TRY();
	{
		segment = dsm_create((Size) *n_slots * (SLOT_SIZE + sizeof(int32)) + 64, DSM_CREATE_NULL_IF_MAXSEGMENTS);
	}
	PG_CATCH();
	{
		ErrorData  *e;

		CurrentResourceOwner = owner;
		MemoryContextSwitchTo(cxt);
		e = CopyErrorData();
		FlushErrorState();
		ereport(LOG,
				(errmsg("detections are not cached: %s", e->message),
				 errhint("Set millrace.detection_cache_size lower, or to 0.")));
		FreeErrorData(e);
	}
	PG_END_TRY();
	CurrentResourceOwner = owner;
	return segment;
}

static void
use_segment(dsm_segment *segment)
{
	buckets = dsm_segment_address(segment);
	slots = (cache_slot *) TYPEALIGN(64, buckets + block->n_buckets);
	dsm_pin_mapping(segment);
}

/* Map the cache, made if new; false: there is none. */
static bool
attach(void)
{
	dsm_segment *segment = NULL;
	dsm_handle	handle;
	int			n_slots = 0;

	if (slots || unavailable)
		return slots != NULL;
	if (block == NULL)
		block = mr_shared_block("millrace detections", sizeof(cache_block));
	LWLockAcquire(&block->head.lock, LW_SHARED);
	handle = block->segment;
	LWLockRelease(&block->head.lock);
	unavailable = true;			/* should what follows fail */
	if (handle == 0)
	{
		segment = make_segment(&n_slots);
		if (segment == NULL)
			return false;
		LWLockAcquire(&block->head.lock, LW_EXCLUSIVE);
		handle = block->segment;
		if (handle == 0)
		{
			dsm_pin_segment(segment);
			block->n_slots = block->n_buckets = n_slots;
			block->since = GetCurrentTimestamp();
			use_segment(segment);
			clear();
			block->segment = dsm_segment_handle(segment);
		}
		LWLockRelease(&block->head.lock);
		if (slots == NULL)
			dsm_detach(segment);	/* somebody was faster */
	}
	if (slots == NULL)
	{
		segment = dsm_attach(handle);
		if (segment == NULL)
			return false;
		use_segment(segment);
	}
	unavailable = false;
	return true;
}

/* ---- entries; the lock is held ---- */

static cache_entry *
entry_at(int32 slot)
{
	return (cache_entry *) slots[slot].bytes;
}

static int32 *
bucket_of(const uint8 key[QLT_KEY_SIZE])
{
	uint32		h;

	memcpy(&h, key, sizeof(h));
	return &buckets[h % (uint32) block->n_buckets];
}

static int32
find(const uint8 key[QLT_KEY_SIZE])
{
	int32		slot = *bucket_of(key);

	while (slot != NONE && memcmp(entry_at(slot)->key, key, QLT_KEY_SIZE) != 0)
		slot = entry_at(slot)->in_bucket;
	return slot;
}

static void
unlink_from_age(const cache_entry *e)
{
	*(e->newer == NONE ? &block->newest : &entry_at(e->newer)->older) = e->older;
	*(e->older == NONE ? &block->oldest : &entry_at(e->older)->newer) = e->newer;
}

static void
make_newest(int32 slot)
{
	cache_entry *e = entry_at(slot);

	e->newer = NONE;
	e->older = block->newest;
	*(block->newest == NONE ? &block->oldest : &entry_at(block->newest)->newer) = slot;
	block->newest = slot;
}

static void
evict(int32 slot)
{
	cache_entry *e = entry_at(slot);
	int32	   *link = bucket_of(e->key);
	int32		last = slot;

	while (*link != slot)
		link = &entry_at(*link)->in_bucket;
	*link = e->in_bucket;
	unlink_from_age(e);
	block->n_free += e->n_slots;
	block->entries--;
	while (slots[last].next != NONE)
		last = slots[last].next;
	slots[last].next = block->free;
	block->free = slot;
}

/* Bytes into a chain that begins at slot, or out of it, from an offset on. */
static void
copy(int32 slot, size_t offset, char *bytes, size_t size, bool in)
{
	for (; offset >= ROOM; offset -= ROOM)
		slot = slots[slot].next;
	while (size > 0)
	{
		size_t		now = Min(size, ROOM - offset);
		char	   *there = slots[slot].bytes + offset;

		memcpy(in ? there : bytes, in ? bytes : there, now);
		bytes += now;
		size -= now;
		offset = 0;
		if (size > 0)
			slot = slots[slot].next;
	}
}

/* ---- interface ---- */

bool
qlt_cache_find(const uint8 key[QLT_KEY_SIZE], qlt_answer *out)
{
	int32		slot;
	int			room = 0;

	if (!attach())
		return false;
	out->d = NULL;
	/* memory is taken without the lock: look again until it is enough */
	for (;;)
	{
		LWLockAcquire(&block->head.lock, LW_EXCLUSIVE);
		slot = find(key);
		if (slot == NONE || entry_at(slot)->n <= room)
			break;
		room = entry_at(slot)->n;
		LWLockRelease(&block->head.lock);
		if (out->d)
			pfree(out->d);
		out->d = palloc(sizeof(qlt_detection) * room);
	}
	if (slot == NONE)
		block->misses++;
	else
	{
		cache_entry *e = entry_at(slot);

		block->hits++;
		unlink_from_age(e);
		make_newest(slot);
		out->width = e->width;
		out->height = e->height;
		out->n = e->n;
		copy(slot, sizeof(cache_entry), (char *) out->d, sizeof(qlt_detection) * e->n, false);
	}
	LWLockRelease(&block->head.lock);
	return slot != NONE;
}

void
qlt_cache_keep(const uint8 key[QLT_KEY_SIZE], const qlt_answer *a)
{
	size_t		size = sizeof(cache_entry) + sizeof(qlt_detection) * a->n;
	int			wanted = (int) ((size + ROOM - 1) / ROOM);
	cache_entry e = {.width = a->width,.height = a->height,.n = a->n,.n_slots = wanted};
	int32		first,
				last;

	/* one image shall not drive out all others */
	if (!attach() || wanted > block->n_slots / 8)
		return;
	memcpy(e.key, key, QLT_KEY_SIZE);
	LWLockAcquire(&block->head.lock, LW_EXCLUSIVE);
	if (find(key) == NONE)
	{
		while (block->n_free < wanted)
		{
			evict(block->oldest);
			block->evicted++;
		}
		first = last = block->free;
		for (int i = 1; i < wanted; i++)
			last = slots[last].next;
		block->free = slots[last].next;
		block->n_free -= wanted;
		slots[last].next = NONE;
		e.in_bucket = *bucket_of(key);
		copy(first, 0, (char *) &e, sizeof(e), true);
		copy(first, sizeof(e), (char *) a->d, sizeof(qlt_detection) * a->n, true);
		*bucket_of(key) = first;
		make_newest(first);
		block->entries++;
	}
	LWLockRelease(&block->head.lock);
}

/* millrace.detection_cache_statistics() -> (entries, bytes, size, hits, misses, evicted, since) */
Datum
millrace_detection_cache_statistics(PG_FUNCTION_ARGS)
{
	Datum		values[7] = {0};
	bool		nulls[7] = {false, false, false, false, false, false, true};
	TupleDesc	desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (block == NULL)
		block = mr_shared_block("millrace detections", sizeof(cache_block));
	LWLockAcquire(&block->head.lock, LW_SHARED);
	values[0] = Int64GetDatum(block->entries);
	values[1] = Int64GetDatum((int64) (block->n_slots - block->n_free) * SLOT_SIZE);
	values[2] = Int64GetDatum((int64) block->n_slots * SLOT_SIZE);
	values[3] = Int64GetDatum(block->hits);
	values[4] = Int64GetDatum(block->misses);
	values[5] = Int64GetDatum(block->evicted);
	values[6] = TimestampTzGetDatum(block->since);
	nulls[6] = block->segment == 0;
	LWLockRelease(&block->head.lock);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

/* millrace.clear_detection_cache() -> void: entries and counters */
Datum
millrace_clear_detection_cache(PG_FUNCTION_ARGS)
{
	if (qlt_cache_wanted() && attach())
	{
		LWLockAcquire(&block->head.lock, LW_EXCLUSIVE);
		clear();
		block->hits = block->misses = block->evicted = 0;
		block->since = GetCurrentTimestamp();
		LWLockRelease(&block->head.lock);
	}
	PG_RETURN_VOID();
}
