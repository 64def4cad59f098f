/*
 * limits_pg.c
 *	  Gates of providers and windows of tenants in shared memory.  See limits.h.
 *
 * An entry is in use while its hash is not 0.  Who has calls under way counts them
 * by entry in memory of its own, too, so that its share is given back when it
 * ends; an entry with calls is never given up, so its number stays.  (Who dies without
 * ending takes the server's shared memory along.)
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "core/shared_pg.h"
#include "task/limits.h"
#include "task/settings.h"
#include "task/tasks.h"

#define FEW_ENTRIES 24			/* fit into the slack of shared memory */
#define PAST (TSK_WINDOW_US + TSK_SLICE_US)	/* nothing older is in a window */

typedef struct entry
{
	Oid			database;
	Oid			provider;
	uint64		tenant;			/* 0: the provider's own */
	TimestampTz used;
	bool		known;			/* of a provider: its windows hold what was begun before us */
	tsk_gate	gate;			/* of a tenant: its window only */
} entry;

typedef struct limits_block
{
	mr_shared_head head;
	TimestampTz crowded;		/* then no entry could be given up */
	uint32		hash[FLEXIBLE_ARRAY_MEMBER];	/* n, then the entries */
} limits_block;

static limits_block *block;
static entry *entries;
static int	n_entries;
static struct
{
	int			calls;
	bool		probe;
}		   *mine;				/* by entry */

/* ---- set-up */

static Size
entries_offset(int n)
{
	return MAXALIGN(offsetof(limits_block, hash) + sizeof(uint32) * (Size) n);
}

static Size
block_size(int n)
{
	return entries_offset(n) + sizeof(entry) * (Size) n;
}

StaticAssertDecl(sizeof(entry) * FEW_ENTRIES < 12 * 1024, "the block must fit into the slack of shared memory");

void
tsk_limits_init(void)
{
	static int	most;

	if (!process_shared_preload_libraries_in_progress)
		return;
	DefineCustomIntVariable(TSK_MAX_LIMITS, "Providers, and tenants with limits of their own, that are called within a minute.",
							"Calls of more than these wait.  Without preloading millrace there is room for 24.",
							&most, TSK_MAX_LIMITS_N, FEW_ENTRIES, 16384, PGC_POSTMASTER, 0, NULL, NULL, NULL);
	mr_shared_reserve(block_size(most));
}

static void
at_exit(int code, Datum arg)
{
	tsk_limits_forget();
}

static void
attach(void)
{
	const char *most;

	if (block != NULL)
		return;
	/* Defined only in a server that has preloaded us; what somebody else has set by that name means nothing. */
	most = GetConfigOption(TSK_MAX_LIMITS, true, false);
	n_entries = most && (GetConfigOptionFlags(TSK_MAX_LIMITS, true) & GUC_CUSTOM_PLACEHOLDER) == 0 ? atoi(most) : FEW_ENTRIES;
	mine = MemoryContextAllocZero(TopMemoryContext, sizeof(*mine) * (Size) n_entries);
	before_shmem_exit(at_exit, 0);
	block = mr_shared_block("millrace limits", block_size(n_entries));
	entries = (entry *) ((char *) block + entries_offset(n_entries));
}

/* ---- entries; under the lock, exclusively unless it says otherwise */

uint64
tsk_tenant_hash(const char *tenant)
{
	uint64		h = *tenant ? hash_bytes_extended((const unsigned char *) tenant, (int) strlen(tenant), 0) : 0;

	return *tenant && h == 0 ? 1 : h;
}

static uint32
hash_of(Oid provider, uint64 tenant)
{
	uint32		h = hash_combine(hash_combine(MyDatabaseId, provider), (uint32) (tenant ^ tenant >> 32));

	return h ? h : 1;
}

/* NULL: there is none.  Any lock. */
static entry *
find(Oid provider, uint64 tenant)
{
	uint32		h = hash_of(provider, tenant);

	for (int i = 0; i < n_entries; i++)
		if (block->hash[i] == h && entries[i].database == MyDatabaseId && entries[i].provider == provider && entries[i].tenant == tenant)
			return &entries[i];
	return NULL;
}

static entry *
find_known(Oid provider)
{
	entry	   *e = find(provider, 0);

	return e && e->known ? e : NULL;
}

/* A free one, or of those that can be given up the one used longest ago; NULL: calls must wait.  Tenants leave some to providers. */
static entry *
find_free(bool for_tenant, TimestampTz now)
{
	entry	   *best = NULL;

	for (int i = for_tenant ? FEW_ENTRIES / 2 : 0; i < n_entries; i++)
	{
		entry	   *e = &entries[i];

		if (block->hash[i] == 0)
			return e;
		/* A clock that was set back leaves times to come. */
		if ((best == NULL || e->used < best->used) && (e->used < now - PAST || e->used > now) && tsk_gate_idle(&e->gate, now))
			best = e;
	}
	return best;
}

static entry *
find_or_make(Oid provider, uint64 tenant, TimestampTz now)
{
	entry	   *e = find(provider, tenant);

	if (e != NULL || (now >= block->crowded && now < block->crowded + USECS_PER_SEC))
		return e;
	e = find_free(tenant != 0, now);
	if (e == NULL)
	{
		block->crowded = now;
		return NULL;
	}
	memset(e, 0, sizeof(*e));
	e->database = MyDatabaseId;
	e->provider = provider;
	e->tenant = tenant;
	e->used = now;
	block->hash[e - entries] = hash_of(provider, tenant);
	return e;
}

/* ---- calls */

bool
tsk_limits_known(Oid provider)
{
	bool		known;

	attach();
	LWLockAcquire(&block->head.lock, LW_SHARED);
	known = find_known(provider) != NULL;
	LWLockRelease(&block->head.lock);
	return known;
}

void
tsk_limits_restore(Oid provider, const tsk_past *past, int n, TimestampTz hold)
{
	TimestampTz now = tsk_now();
	entry	   *own;

	attach();
	LWLockAcquire(&block->head.lock, LW_EXCLUSIVE);
	own = find_or_make(provider, 0, now);
	for (int i = 0; i < n && own && !own->known; i++)
	{
		entry	   *e = past[i].tenant ? find_or_make(provider, past[i].tenant, now) : NULL;

		if (past[i].tenant && e == NULL)
			own = NULL;			/* no room for all: later */
		else if (e && (i == 0 || past[i - 1].tenant != past[i].tenant))
			memset(&e->gate, 0, sizeof(e->gate));
		if (e)
			(void) tsk_window_add(&e->gate.window, past[i].at, past[i].requests, past[i].tokens, now);
	}
	if (own && !own->known)
	{
		memset(&own->gate, 0, sizeof(own->gate));
		for (int i = 0; i < n; i++)
			(void) tsk_window_add(&own->gate.window, past[i].at, past[i].requests, past[i].tokens, now);
		tsk_gate_hold(&own->gate, hold, now);
		own->known = true;
	}
	LWLockRelease(&block->head.lock);
}

/* Under the lock: may a tenant's call begin?  Counted if so. */
static bool
admit_tenant(const tsk_pass *pass, const tsk_limits *limits, TimestampTz now, TimestampTz *again_at)
{
	entry	   *e;

	if (pass->tenant == 0)
		return true;
	e = find_or_make(pass->provider, pass->tenant, now);
	*again_at = e ? tsk_tenant_room(&e->gate.window, limits, pass->ticket.tokens, now) : now + USECS_PER_SEC;
	if (*again_at > now)
		return false;
	(void) tsk_window_add(&e->gate.window, now, 1, pass->ticket.tokens, now);
	e->used = now;
	return true;
}

tsk_admission
tsk_limits_admit(Oid provider, const tsk_limits *limits, const char *tenant, int tokens, tsk_pass *pass, TimestampTz *again_at)
{
	bool		by_tenant = limits->tenant_requests_per_minute > 0 || limits->tenant_tokens_per_minute > 0 || limits->tenant_cost_per_minute > 0;
	TimestampTz now = tsk_now();
	tsk_admission admission = TSK_ADMITTED;
	entry	   *e;

	*again_at = now;
	if (block == NULL)
		return TSK_FULL;		/* not learnt */
	*pass = (tsk_pass) {.provider = provider,.tenant = by_tenant ? tsk_tenant_hash(tenant) : 0};
	LWLockAcquire(&block->head.lock, LW_EXCLUSIVE);
	e = find_known(provider);
	if (e == NULL || !tsk_gate_admit(&e->gate, limits, MyProcPid, mine[e - entries].calls, tokens, now, &pass->ticket, again_at))
		admission = TSK_FULL;
	else if (!admit_tenant(pass, limits, now, again_at))
	{
		tsk_gate_done(&e->gate, &pass->ticket, -1, TSK_NOT_BEGUN, false, now);
		admission = TSK_TENANT_FULL;
	}
	else
	{
		e->used = now;
		mine[e - entries].calls++;
		mine[e - entries].probe |= pass->ticket.probe;
	}
	LWLockRelease(&block->head.lock);
	return admission;
}

bool
tsk_limits_begin(tsk_pass *pass)
{
	TimestampTz now = tsk_now();
	tsk_ticket	tenants = pass->ticket;
	entry	   *e;
	bool		begun;

	LWLockAcquire(&block->head.lock, LW_EXCLUSIVE);
	e = find_known(pass->provider);
	begun = e != NULL && tsk_gate_begin(&e->gate, &pass->ticket, now);
	if (begun)
		e->used = now;
	e = begun && pass->tenant ? find(pass->provider, pass->tenant) : NULL;
	if (e != NULL && tsk_gate_begin(&e->gate, &tenants, now))
		e->used = now;
	LWLockRelease(&block->head.lock);
	return begun;
}

void
tsk_limits_done(const tsk_pass *pass, int used, tsk_health health, bool slow_down)
{
	TimestampTz now = tsk_now();
	entry	   *e;

	LWLockAcquire(&block->head.lock, LW_EXCLUSIVE);
	e = find_known(pass->provider);
	if (e != NULL && mine[e - entries].calls > 0)
	{
		tsk_gate_done(&e->gate, &pass->ticket, used, health, slow_down, now);
		mine[e - entries].calls--;
		mine[e - entries].probe &= !pass->ticket.probe;
	}
	e = pass->tenant ? find(pass->provider, pass->tenant) : NULL;
	if (e != NULL)
		tsk_gate_done(&e->gate, &pass->ticket, used, health == TSK_NOT_BEGUN ? health : TSK_UNKNOWN, false, now);
	LWLockRelease(&block->head.lock);
}

void
tsk_limits_forget(void)
{
	if (block == NULL)
		return;
	LWLockAcquire(&block->head.lock, LW_EXCLUSIVE);
	for (int i = 0; i < n_entries; i++)
		if (mine[i].calls > 0)
		{
			tsk_gate_forget(&entries[i].gate, mine[i].calls, mine[i].probe);
			mine[i].calls = 0;
			mine[i].probe = false;
		}
	LWLockRelease(&block->head.lock);
}

void
tsk_limits_hold(Oid provider, TimestampTz until)
{
	TimestampTz now = tsk_now();
	entry	   *e;

	attach();
	LWLockAcquire(&block->head.lock, LW_EXCLUSIVE);
	e = find_known(provider);
	if (e != NULL)
		tsk_gate_hold(&e->gate, until, now);
	LWLockRelease(&block->head.lock);
}

bool
tsk_limits_look(Oid provider, const char *tenant, tsk_limits_state *out)
{
	TimestampTz now = tsk_now();
	const entry *e;
	tsk_gate	g;

	attach();
	LWLockAcquire(&block->head.lock, LW_SHARED);
	e = find(provider, tsk_tenant_hash(tenant));
	if (e != NULL)
		g = e->gate;
	LWLockRelease(&block->head.lock);
	if (e == NULL)
		return false;
	out->calls = g.calls;
	tsk_window_sum(&g.window, now, &out->requests, &out->tokens);
	out->rate = tsk_gate_rate(&g, now);
	out->breaker = g.breaker;
	out->until = Max(g.hold, g.breaker == TSK_OPEN ? g.until : 0);
	if (out->until <= now)
		out->until = 0;
	return true;
}
