/*
 * meter_pg.c
 *	  Meters of sources, outboxes and HTTP queues.  See meter_pg.h.
 *
 * A window is a ring of buckets, each of a fixed stretch of time; a bucket is
 * cleared by whoever first adds to it in a new stretch.  What is read is the
 * stretch that has begun and the whole ones before it.
 *
 * Lock: the block's LWLock, exclusively; once a batch, so nobody waits for it.
 * Memory: of fixed size.  When all meters are taken, one that was idle for a
 * minute makes room; where none was, the newcomer goes without.
 */
#include "postgres.h"

#include "core/meter_pg.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

#define MAX_METERS 32
#define FINE_S 2				/* 10 s: five whole stretches of 2 s and the one that has begun */
#define COARSE_S 10				/* 60 s: six of 10 s */
#define FINE 6
#define COARSE 7

typedef struct bucket
{
	uint32		stretch;		/* number of the stretch of time it is for */
	uint32		messages;
	uint32		batches;
	uint32		busy_us;
	uint64		bytes;
} bucket;

typedef struct mr_meter
{
	mr_worker_kind kind;		/* 0: free */
	Oid			database;
	char		name[NAMEDATALEN];
	TimestampTz since;
	TimestampTz used;
	uint64		errors;
	mr_work		total;
	bucket		fine[FINE];
	bucket		coarse[COARSE];
} mr_meter;

typedef struct meter_block
{
	mr_shared_head head;
	mr_meter	meter[MAX_METERS];
} meter_block;

StaticAssertDecl(sizeof(meter_block) < 16 * 1024, "the block must fit into the slack of shared memory");

static meter_block *block;

static void
attach(void)
{
	if (block == NULL)
		block = mr_shared_block("millrace meters", sizeof(meter_block));
}

void
mr_meter_init(void)
{
	if (process_shared_preload_libraries_in_progress)
		mr_shared_reserve(sizeof(meter_block));
}

static uint32
stretch_at(TimestampTz now, int seconds)
{
	return (uint32) (now / (seconds * USECS_PER_SEC));
}

static void
fill(bucket *ring, int n, uint32 stretch, const mr_work *work)
{
	bucket	   *b = &ring[stretch % n];

	if (b->stretch != stretch)
	{
		memset(b, 0, sizeof(*b));
		b->stretch = stretch;
	}
	b->messages += (uint32) work->messages;
	b->batches += (uint32) work->batches;
	b->busy_us += (uint32) work->busy_us;
	b->bytes += work->bytes;
}

/* The sum over a ring, and how long a time it covers. */
static double
sum(const bucket *ring, int n, int seconds, TimestampTz now, TimestampTz since, mr_work *out)
{
	uint32		last = stretch_at(now, seconds);
	TimestampTz begin = (TimestampTz) (last - (uint32) (n - 1)) * seconds * USECS_PER_SEC;

	memset(out, 0, sizeof(*out));
	for (int i = 0; i < n; i++)
		if (last - ring[i].stretch < (uint32) n)
		{
			out->messages += ring[i].messages;
			out->batches += ring[i].batches;
			out->busy_us += ring[i].busy_us;
			out->bytes += ring[i].bytes;
		}
	return Max((double) (now - Max(begin, since)) / USECS_PER_SEC, 1.0);
}

static bool
is_meter(const mr_meter *m, mr_worker_kind kind, const char *name)
{
	return m->kind == kind && m->database == MyDatabaseId && strcmp(m->name, name) == 0;
}

/* Ours; NULL: we are no worker, or there is no room. */
static mr_meter *
mine_locked(TimestampTz now)
{
	static mr_meter *mine;		/* unless somebody took it over since */
	mr_worker_kind kind;
	const char *name = mr_worker_name(&kind);
	mr_meter   *oldest = &block->meter[0];

	if (name == NULL)
		return NULL;
	if (mine != NULL && is_meter(mine, kind, name))
		return mine;
	for (int i = 0; i < MAX_METERS; i++)
		if (is_meter(&block->meter[i], kind, name))
			return mine = &block->meter[i];
	for (int i = 0; i < MAX_METERS && oldest->kind != 0; i++)
		if (block->meter[i].kind == 0 || block->meter[i].used < oldest->used)
			oldest = &block->meter[i];
	if (oldest->kind != 0 && now - oldest->used < USECS_PER_MINUTE)
		return NULL;
	memset(oldest, 0, sizeof(*oldest));
	oldest->kind = kind;
	oldest->database = MyDatabaseId;
	strlcpy(oldest->name, name, sizeof(oldest->name));
	oldest->since = now;
	return mine = oldest;
}

static void
add(const mr_work *work, uint64 errors)
{
	TimestampTz now = GetCurrentTimestamp();
	mr_meter   *m;

	attach();
	LWLockAcquire(&block->head.lock, LW_EXCLUSIVE);
	m = mine_locked(now);
	if (m != NULL)
	{
		m->used = now;
		m->errors += errors;
		m->total.messages += work->messages;
		m->total.batches += work->batches;
		m->total.busy_us += work->busy_us;
		m->total.bytes += work->bytes;
		fill(m->fine, FINE, stretch_at(now, FINE_S), work);
		fill(m->coarse, COARSE, stretch_at(now, COARSE_S), work);
	}
	LWLockRelease(&block->head.lock);
}

void
mr_meter_add(const mr_work *work)
{
	add(work, 0);
}

void
mr_meter_error(void)
{
	static const mr_work none;

	add(&none, 1);
}

int
mr_meters(Oid database, mr_meter_reading **out)
{
	mr_meter_reading *list = palloc(sizeof(*list) * MAX_METERS);
	TimestampTz now = GetCurrentTimestamp();
	int			n = 0;

	attach();
	LWLockAcquire(&block->head.lock, LW_SHARED);
	for (int i = 0; i < MAX_METERS; i++)
	{
		const mr_meter *m = &block->meter[i];
		mr_meter_reading *r = &list[n];

		if (m->kind == 0 || m->database != database)
			continue;
		r->kind = m->kind;
		strlcpy(r->name, m->name, sizeof(r->name));
		r->total = m->total;
		r->errors = m->errors;
		r->since = m->since;
		r->seconds[0] = sum(m->fine, FINE, FINE_S, now, m->since, &r->recent[0]);
		r->seconds[1] = sum(m->coarse, COARSE, COARSE_S, now, m->since, &r->recent[1]);
		n++;
	}
	LWLockRelease(&block->head.lock);
	*out = list;
	return n;
}
