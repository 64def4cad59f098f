/*
 * series_pg.c
 *	  Histograms and counters in shared memory.  See series_pg.h.
 *
 * Lock: the block's LWLock, shared to find a series and add to it (atomics),
 * exclusively to make one.  Series are chained by hash; nothing under the lock throws.
 * What waits for a commit is in TopTransactionContext, one entry for a series and subtransaction.
 */
#include "postgres.h"

#include <math.h>

#include "access/xact.h"
#include "common/hashfn.h"
#include "core/series_pg.h"
#include "core/shared_pg.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define MAX_SERIES_GUC "millrace.max_metric_series"
#define MAX_SERIES 1024
#define FEW_SERIES 12			/* fit into the slack of shared memory */
#define SAME_FIRST 64			/* series of a family whose first label is the same: a pipeline has so many stages at most */
#define IDLE_US (USECS_PER_HOUR)
#define MAX_WAITING 256			/* series of a transaction */

/* 1 ms to a minute: stages and requests. */
static const double usual_bounds[MR_BUCKETS - 1] =
{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60};

/* 10 us to 10 s: models. */
static const double fine_bounds[MR_BUCKETS - 1] =
{0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10};

const mr_family_info mr_families[MR_N_FAMILIES] = {
	[MR_STAGE_SECONDS] = {"millrace_stage_seconds", "Time that a stage of a pipeline took, of work that was committed.",
		{"pipeline", "stage", NULL}, usual_bounds, 0},
	[MR_HTTP_SECONDS] = {"millrace_http_request_seconds", "Time from the head of an HTTP request to the end of its answer, by pattern of the route.",
		{"route", "method", "status"}, usual_bounds, 0},
	[MR_MODEL_SECONDS] = {"millrace_model_call_seconds", "Time of a model's calls; of quick ones a sample, each counted for those it stands for.",
		{"model", "version", NULL}, fine_bounds, 0},
	[MR_TASK_SECONDS] = {"millrace_task_attempt_seconds", "Time that attempts at tasks took, by how they ended.",
		{"kind", "lane", "outcome"}, usual_bounds, 0},
	[MR_TASK_WAIT_SECONDS] = {"millrace_task_wait_seconds", "Time that tasks waited for their first attempt.",
		{"kind", "lane", NULL}, usual_bounds, 0},
	[MR_PROVIDER_SECONDS] = {"millrace_provider_call_seconds", "Time that calls of a provider took, by how they ended.",
		{"provider", "outcome", NULL}, usual_bounds, 0},
	[MR_TASKS_ENDED] = {"millrace_task_ended_total", "Tasks that have ended.",
		{"kind", "state", NULL}, NULL, 0},
	[MR_PROVIDER_TOKENS] = {"millrace_provider_tokens_total", "Tokens sent to a provider (in) and received from it (out).",
		{"provider", "direction", NULL}, NULL, 0},
	[MR_PROVIDER_COST] = {"millrace_provider_cost_total", "What calls of a provider have cost, in the unit of its option cost_per_1k.",
		{"provider", NULL, NULL}, NULL, 1e-6},
	[MR_GATEWAY_EVENTS] = {"millrace_gateway_events_total", "What happened to connections and requests of the gateway.",
		{"event", NULL, NULL}, NULL, 0},
};

/* Labels one behind the other with their NULs, zeroes behind: compared as bytes. */
typedef struct series_key
{
	Oid			database;
	uint32		family;
	char		label[MR_LABELS][MR_LABEL_SIZE];
} series_key;

typedef struct series
{
	series_key	key;
	uint32		hash;
	int32		next;			/* of the same head; -1: the last */
	bool		in_use;
	pg_atomic_uint64 used;		/* TimestampTz */
	pg_atomic_uint64 ns;
	pg_atomic_uint64 bucket[MR_BUCKETS];
} series;

typedef struct series_block
{
	mr_shared_head head;
	bool		ready;			/* heads and atomics are */
	int			n_used;
	pg_atomic_uint64 lost;
	int32		first[FLEXIBLE_ARRAY_MEMBER];	/* n heads, then n series */
} series_block;

typedef struct waiting
{
	SubTransactionId sub;
	series_key	key;
	uint64		bucket[MR_BUCKETS];
	double		seconds;
} waiting;

static series_block *block;
static series *all;
static int	n_series;

static waiting *list;			/* in TopTransactionContext */
static int	n_list,
			list_room;
static bool watching;

StaticAssertDecl(sizeof(series) * FEW_SERIES < 10 * 1024, "the block must fit into the slack of shared memory");

/* ---- set-up */

static Size
series_offset(int n)
{
	return MAXALIGN(offsetof(series_block, first) + sizeof(int32) * (Size) n);
}

static Size
block_size(int n)
{
	return series_offset(n) + sizeof(series) * (Size) n;
}

void
mr_series_init(void)
{
	static int	most;

	if (!process_shared_preload_libraries_in_progress)
		return;
	DefineCustomIntVariable(MAX_SERIES_GUC, "Histograms and counters that metrics are made of, in all databases.",
							"What finds no room is not counted. Without preloading millrace there is room for 12.",
							&most, MAX_SERIES, FEW_SERIES, 65536, PGC_POSTMASTER, 0, NULL, NULL, NULL);
	mr_shared_reserve(block_size(most));
}

void
mr_series_attach(void)
{
	const char *most;
	series_block *b;

	if (block != NULL)
		return;
	/* Defined only in a server that has preloaded us; what somebody else has set by that name means nothing. */
	most = GetConfigOption(MAX_SERIES_GUC, true, false);
	n_series = most && (GetConfigOptionFlags(MAX_SERIES_GUC, true) & GUC_CUSTOM_PLACEHOLDER) == 0 ? atoi(most) : FEW_SERIES;
	b = mr_shared_block("millrace metrics", block_size(n_series));
	all = (series *) ((char *) b + series_offset(n_series));
	LWLockAcquire(&b->head.lock, LW_EXCLUSIVE);
	if (!b->ready)
	{
		pg_atomic_init_u64(&b->lost, 0);
		for (int i = 0; i < n_series; i++)
		{
			b->first[i] = -1;
			pg_atomic_init_u64(&all[i].used, 0);
			pg_atomic_init_u64(&all[i].ns, 0);
			for (int k = 0; k < MR_BUCKETS; k++)
				pg_atomic_init_u64(&all[i].bucket[k], 0);
		}
		b->ready = true;
	}
	LWLockRelease(&b->head.lock);
	block = b;
}

/* ---- finding and making, under the lock */

static void
set_label(char *to, const char *label)
{
	if (label)
		memcpy(to, label, pg_mbcliplen(label, (int) strlen(label), MR_LABEL_SIZE - 1));
}

static void
make_key(series_key *key, mr_family family, const char *label1, const char *label2, const char *label3)
{
	memset(key, 0, sizeof(*key));
	key->database = MyDatabaseId;
	key->family = family;
	set_label(key->label[0], label1);
	set_label(key->label[1], label2);
	set_label(key->label[2], label3);
}

static uint32
hash_of(const series_key *key)
{
	uint32		h = hash_combine(key->database, key->family);

	for (int i = 0; i < MR_LABELS; i++)
		h = hash_combine(h, hash_bytes((const unsigned char *) key->label[i], (int) strlen(key->label[i])));
	return h;
}

static series *
find_locked(const series_key *key, uint32 hash)
{
	for (int32 i = block->first[hash % (uint32) n_series]; i >= 0; i = all[i].next)
		if (all[i].hash == hash && memcmp(&all[i].key, key, sizeof(*key)) == 0)
			return &all[i];
	return NULL;
}

static void
unchain_locked(series *s)
{
	int32	   *link = &block->first[s->hash % (uint32) n_series];

	while (*link != s - all)
		link = &all[*link].next;
	*link = s->next;
	s->in_use = false;
	block->n_used--;
}

/* NULL: there is no room, or this first label has had its share.  Exclusively. */
static series *
make_locked(const series_key *key, uint32 hash, TimestampTz now)
{
	series	   *best = NULL;
	int			same = 0;
	int32	   *head = &block->first[hash % (uint32) n_series];

	for (int i = 0; i < n_series; i++)
	{
		series	   *s = &all[i];

		if (!s->in_use)
		{
			if (best == NULL || best->in_use)
				best = s;
			continue;
		}
		if (s->key.database == key->database && s->key.family == key->family && strcmp(s->key.label[0], key->label[0]) == 0)
			same++;
		if (best == NULL || (best->in_use && pg_atomic_read_u64(&s->used) < pg_atomic_read_u64(&best->used)))
			best = s;
	}
	if (same >= SAME_FIRST)
		return NULL;
	if (best->in_use)
	{
		if (now - (TimestampTz) pg_atomic_read_u64(&best->used) < IDLE_US)
			return NULL;
		unchain_locked(best);
	}
	best->key = *key;
	best->hash = hash;
	best->in_use = true;
	pg_atomic_write_u64(&best->ns, 0);
	for (int k = 0; k < MR_BUCKETS; k++)
		pg_atomic_write_u64(&best->bucket[k], 0);
	best->next = *head;
	*head = (int32) (best - all);
	block->n_used++;
	return best;
}

static void
add(const series_key *key, const uint64 *bucket, double seconds)
{
	uint32		hash = hash_of(key);
	TimestampTz now = GetCurrentTimestamp();
	series	   *s;

	LWLockAcquire(&block->head.lock, LW_SHARED);
	s = find_locked(key, hash);
	if (s == NULL)
	{
		LWLockRelease(&block->head.lock);
		LWLockAcquire(&block->head.lock, LW_EXCLUSIVE);
		s = find_locked(key, hash);
		if (s == NULL)
			s = make_locked(key, hash, now);
	}
	for (int k = 0; k < MR_BUCKETS; k++)
		if (bucket[k] > 0)
			pg_atomic_fetch_add_u64(s ? &s->bucket[k] : &block->lost, bucket[k]);
	if (s)
	{
		pg_atomic_fetch_add_u64(&s->ns, (uint64) (seconds * 1e9));
		pg_atomic_write_u64(&s->used, (uint64) now);
	}
	LWLockRelease(&block->head.lock);
}

/* ---- observing */

/* A clock set back, or a caller's nonsense, must not spoil the sum. */
static double
sound(double seconds)
{
	return isnan(seconds) || seconds < 0 ? 0 : Min(seconds, 1e6);
}

int
mr_bucket(mr_family family, double seconds)
{
	const double *bounds = mr_families[family].bounds;
	int			k = 0;

	while (bounds && k < MR_BUCKETS - 1 && sound(seconds) > bounds[k])
		k++;
	return k;
}

void
mr_observe_many(mr_family family, const char *label1, const char *label2, const char *label3,
				const uint64 *bucket, double seconds)
{
	series_key	key;

	mr_series_attach();
	make_key(&key, family, label1, label2, label3);
	add(&key, bucket, sound(seconds));
}

void
mr_observe(mr_family family, const char *label1, const char *label2, const char *label3, double seconds)
{
	uint64		bucket[MR_BUCKETS] = {0};

	bucket[mr_bucket(family, seconds)] = 1;
	mr_observe_many(family, label1, label2, label3, bucket, seconds);
}

void
mr_tally(mr_family family, const char *label1, const char *label2, const char *label3, uint64 n)
{
	uint64		bucket[MR_BUCKETS] = {n};

	mr_observe_many(family, label1, label2, label3, bucket, 0);
}

/* ---- what waits for the commit */

static void
forget(int i)
{
	list[i] = list[--n_list];
}

static waiting *
find_waiting(const series_key *key, SubTransactionId sub)
{
	for (int i = n_list - 1; i >= 0; i--)
		if (list[i].sub == sub && memcmp(&list[i].key, key, sizeof(*key)) == 0)
			return &list[i];
	return NULL;
}

static void
at_end_of_transaction(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_PREPARE)
		for (int i = 0; i < n_list; i++)
			add(&list[i].key, list[i].bucket, list[i].seconds);
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_PREPARE || event == XACT_EVENT_ABORT)
	{
		list = NULL;
		n_list = 0;
	}
}

static void
at_end_of_subtransaction(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	if (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB)
		return;
	for (int i = n_list - 1; i >= 0; i--)
	{
		waiting    *w = &list[i];
		waiting    *of_parent;

		if (w->sub != mine)
			continue;
		if (event == SUBXACT_EVENT_ABORT_SUB)
			forget(i);
		else if ((of_parent = find_waiting(&w->key, parent)) == NULL)
			w->sub = parent;
		else
		{
			for (int k = 0; k < MR_BUCKETS; k++)
				of_parent->bucket[k] += w->bucket[k];
			of_parent->seconds += w->seconds;
			forget(i);
		}
	}
}

/* The entry of a series in this subtransaction, made if new; NULL: there is no room. */
static waiting *
waiting_for(mr_family family, const char *label1, const char *label2, const char *label3)
{
	series_key	key;
	waiting    *w;

	mr_series_attach();
	if (!watching)
	{
		RegisterXactCallback(at_end_of_transaction, NULL);
		RegisterSubXactCallback(at_end_of_subtransaction, NULL);
		watching = true;
	}
	make_key(&key, family, label1, label2, label3);
	w = find_waiting(&key, GetCurrentSubTransactionId());
	if (w != NULL)
		return w;
	if (n_list == MAX_WAITING)
	{
		pg_atomic_fetch_add_u64(&block->lost, 1);
		return NULL;
	}
	if (list == NULL)
	{
		list_room = 8;
		list = MemoryContextAlloc(TopTransactionContext, sizeof(waiting) * list_room);
	}
	else if (n_list == list_room)
	{
		list = repalloc(list, sizeof(waiting) * list_room * 2);
		list_room *= 2;
	}
	w = &list[n_list++];
	memset(w, 0, sizeof(*w));
	w->sub = GetCurrentSubTransactionId();
	w->key = key;
	return w;
}

void
mr_observe_at_commit(mr_family family, const char *label1, const char *label2, const char *label3,
					 double seconds, uint64 times)
{
	waiting    *w = waiting_for(family, label1, label2, label3);

	if (w == NULL)
		return;
	w->bucket[mr_bucket(family, seconds)] += times;
	w->seconds += sound(seconds) * (double) times;
}

void
mr_tally_at_commit(mr_family family, const char *label1, const char *label2, const char *label3, uint64 n)
{
	waiting    *w = waiting_for(family, label1, label2, label3);

	if (w != NULL)
		w->bucket[0] += n;
}

/* ---- reading */

static int
compare_readings(const void *a, const void *b)
{
	const mr_series_reading *x = a;
	const mr_series_reading *y = b;
	int			order = (int) x->family - (int) y->family;

	for (int i = 0; i < MR_LABELS && order == 0; i++)
		order = strcmp(x->label[i], y->label[i]);
	return order;
}

int
mr_series_read(mr_series_reading **out)
{
	int			n = 0;

	mr_series_attach();
	*out = palloc_extended(sizeof(mr_series_reading) * (Size) n_series, MCXT_ALLOC_HUGE);
	LWLockAcquire(&block->head.lock, LW_SHARED);
	for (int i = 0; i < n_series; i++)
	{
		series	   *s = &all[i];
		mr_series_reading *r = &(*out)[n];

		if (!s->in_use || s->key.database != MyDatabaseId)
			continue;
		r->family = s->key.family;
		memcpy(r->label, s->key.label, sizeof(r->label));
		r->seconds = 1e-9 * (double) pg_atomic_read_u64(&s->ns);
		for (int k = 0; k < MR_BUCKETS; k++)
			r->bucket[k] = pg_atomic_read_u64(&s->bucket[k]);
		n++;
	}
	LWLockRelease(&block->head.lock);
	qsort(*out, n, sizeof(mr_series_reading), compare_readings);
	return n;
}

void
mr_series_room(int *most, int *used, uint64 *lost)
{
	mr_series_attach();
	*most = n_series;
	LWLockAcquire(&block->head.lock, LW_SHARED);
	*used = block->n_used;
	LWLockRelease(&block->head.lock);
	*lost = pg_atomic_read_u64(&block->lost);
}
