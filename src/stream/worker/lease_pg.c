/*
 * lease_pg.c
 *	  Words heard and said: who rules a partition, whether our lease of it holds,
 *	  and the look before a batch's COMMIT.  Touches no table.  The protocol and
 *	  its proof: docs/sharing.md.
 *
 * Memory: all of it in a context that ends with the control topic's client.
 * Locks: none.
 */
#include "postgres.h"

#include "stream/worker/share.h"

#include <time.h>

#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "common/pg_prng.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "core/owner_pg.h"

#define OPEN_MS 10000			/* for hearing what is there already */
#define RENEW_MS 2000			/* for a renewal within a transaction */

static MemoryContext cxt = NULL;
static kfk_share *shares = NULL;
static int	n_shares = 0;
static char *me = NULL;			/* our identity */
static uint64 last_nonce;

/* ---- clocks ---- */

static int64
clock_ms(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (int64) t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

kfk_instant
kfk_instant_now(void)
{
	return (kfk_instant) {clock_ms(CLOCK_BOOTTIME), clock_ms(CLOCK_REALTIME)};
}

/* At most, and at least, so long ago: by the clock that went further, and by the other. */
int64
kfk_at_most_since(kfk_instant then)
{
	kfk_instant now = kfk_instant_now();

	return Max(now.boot - then.boot, now.real - then.real);
}

int64
kfk_at_least_since(kfk_instant then)
{
	kfk_instant now = kfk_instant_now();

	return Min(now.boot - then.boot, now.real - then.real);
}

/* How long a taker waits for an owner with this lease: half of it more, for a commit that was begun within. */
int
kfk_silence_of(int lease_ms)
{
	return lease_ms + lease_ms / 2;
}

/* ---- what is ours ---- */

kfk_share *
kfk_shares(int *n)
{
	*n = n_shares;
	return shares;
}

const char *
kfk_identity(void)
{
	return me;
}

void
kfk_share_close(void)
{
	kfk_control_close();
	if (cxt)
		MemoryContextDelete(cxt);
	cxt = NULL;
	shares = NULL;
	n_shares = 0;
}

kfk_share *
kfk_share_of(int32 partition)
{
	for (int i = 0; i < n_shares; i++)
		if (shares[i].partition == partition)
			return &shares[i];
	return NULL;
}

/* Does the control topic say that it is ours? */
bool
kfk_is_mine(const kfk_share *s)
{
	return s->known && strcmp(s->ruling.owner, me) == 0;
}

bool
kfk_lease_holds(const kfk_source *source, const kfk_share *s)
{
	return kfk_is_mine(s) && s->leased && kfk_at_most_since(s->lease_from) < source->lease_ms;
}

bool
kfk_share_owns(int32 partition)
{
	kfk_share  *s = kfk_share_of(partition);

	return s != NULL && s->state == KFK_OWNED;
}

/* ---- hearing ---- */

/*
 * A word counts if its tenure is the highest we know of, or the first of two
 * claims of one epoch: all servers hear the same order and judge alike.
 */
static void
hear(const kfk_word *w)
{
	kfk_share  *s = kfk_share_of(w->partition);
	kfk_word   *rules;
	int64		claim = w->claim >= 0 ? w->claim : w->offset;
	bool		ours = strcmp(w->owner, me) == 0;
	bool		heard_self;

	if (s == NULL)
		return;
	rules = &s->ruling;
	heard_self = s->said && ours && w->nonce == s->nonce;
	if (heard_self)
		s->said = false;
	if (s->known && (w->epoch < rules->epoch || (w->epoch == rules->epoch && claim > rules->claim)))
		return;
	if (!s->known || w->epoch != rules->epoch || claim != rules->claim)
	{
		/* A new tenure.  Whoever had the one before, or one before that, may commit as long as its lease holds. */
		if (s->known && !rules->released && strcmp(rules->owner, w->owner) != 0 &&
			s->heard.boot + kfk_silence_of(rules->lease_ms) > s->quiet_from.boot + s->quiet_ms)
		{
			s->quiet_from = s->heard;
			s->quiet_ms = kfk_silence_of(rules->lease_ms);
		}
		if (s->epoch > 0 && w->epoch > s->epoch && (s->next_start < 0 || w->start < s->next_start))
			s->next_start = w->start;
		*rules = *w;
		rules->claim = claim;
		rules->owner = MemoryContextStrdup(cxt, w->owner);
		s->known = true;
		s->leased = false;
	}
	else if (rules->released && !w->released)
		return;					/* said before the release, arrived after it */
	rules->start = w->start;
	rules->next = w->next;
	rules->lease_ms = w->lease_ms;
	rules->released = w->released;
	if (rules->released)
		s->quiet_ms = 0;		/* it has waited for that */
	s->heard = kfk_instant_now();
	if (heard_self)
	{
		s->leased = true;
		s->lease_from = s->said_at;
	}
}

/* All that is there now.  ERROR if the topic cannot be heard, or not what we said: whether it is there still shows when it is opened. */
static void
listen(const kfk_source *source)
{
	MemoryContext turn = AllocSetContextCreate(CurrentMemoryContext, "millrace words", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(turn);
	char		error[512];
	kfk_word	w;
	kfk_hearing hearing;

	while ((hearing = kfk_control_hear(source, &w, error, sizeof(error))) == KFK_HEARD)
	{
		hear(&w);
		MemoryContextReset(turn);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(turn);
	if (hearing == KFK_DEAF)
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("control topic \"%s\": %s", source->control_topic, error)));
	for (int i = 0; i < n_shares; i++)
		if (shares[i].said && kfk_at_most_since(shares[i].asked_at) > source->lease_ms)
			ereport(ERROR,
					(errcode(ERRCODE_CONNECTION_FAILURE),
					 errmsg("control topic \"%s\" does not answer: the lease of partition %d has run out%s%s", source->control_topic, shares[i].partition,
							kfk_control_trouble()[0] ? "; " : "", kfk_control_trouble())));
}

/* ---- saying ---- */

/* Everything written to the log so far is on disk. */
static void
flush(void)
{
	XLogRecPtr	end = GetXLogInsertRecPtr();

	/* Where the next record will begin; behind the header of a page that is not there yet. */
	if (XLogSegmentOffset(end, wal_segment_size) == SizeOfXLogLongPHD)
		end -= SizeOfXLogLongPHD;
	else if (end % XLOG_BLCKSZ == SizeOfXLogShortPHD)
		end -= SizeOfXLogShortPHD;
	XLogFlush(end);
}

void
kfk_say(const kfk_source *source, kfk_share *s, int64 epoch, int64 claim, int64 start, int64 next, bool released)
{
	kfk_word	w = {.partition = s->partition,.owner = me,.epoch = epoch,.claim = claim,.start = start,.next = next,
		.lease_ms = source->lease_ms,.released = released,.nonce = ++last_nonce
	};
	char		error[512];

	/* What others rely on must be on disk: an offset that a crash takes back would be a gap. */
	flush();
	s->said_at = kfk_instant_now();
	if (!s->said)
		s->asked_at = s->said_at;
	s->said = true;
	s->nonce = w.nonce;
	if (!kfk_control_say(source, &w, error, sizeof(error)))
		ereport(LOG, (errmsg("source \"%s\", control topic \"%s\": %s", source->name, source->control_topic, mr_plain(error))));
}

/* Say again that it is ours. */
static void
renew(const kfk_source *source, kfk_share *s)
{
	kfk_say(source, s, s->ruling.epoch, s->ruling.claim, s->ruling.start, s->next_offset >= 0 ? s->next_offset : s->ruling.next, false);
}

/* Renew every third of the lease. */
static void
keep_leases(const kfk_source *source)
{
	for (int i = 0; i < n_shares; i++)
	{
		kfk_share  *s = &shares[i];

		if ((s->state == KFK_OWNED || s->state == KFK_CLAIMED) && kfk_is_mine(s) && !s->ruling.released &&
			(s->said || s->leased ? kfk_at_most_since(s->said_at) >= source->lease_ms / 3 : true))
			renew(source, s);
	}
}

/* Hear, and keep what we have; without touching the database. */
void
kfk_share_listen(const kfk_source *source)
{
	if (shares == NULL)
		return;
	listen(source);
	if (kfk_control_at_end())
		keep_leases(source);
}

/*
 * May a transaction that moves these partitions on commit?  Asked right before it does.  False: one of them is no
 * longer ours.  ERROR if the lease has run out and nobody answers.
 */
bool
kfk_share_may_commit(const kfk_source *source, const kfk_partition *partitions, int n)
{
	kfk_instant began = kfk_instant_now();
	bool		asked = false;

	if (source->control_topic == NULL)
		return true;
	for (;;)
	{
		bool		all = true;

		for (int i = 0; i < n; i++)
		{
			const kfk_partition *p = &partitions[i];
			kfk_share  *s = kfk_share_of(p->partition);

			if (p->new_offset == p->next_offset && !p->redriven)
				continue;
			if (s == NULL || s->state != KFK_OWNED || !kfk_is_mine(s))
				return false;
			if (kfk_lease_holds(source, s))
				continue;
			all = false;
			if (!asked)
				renew(source, s);
		}
		if (all)
			return true;
		asked = true;
		if (kfk_at_most_since(began) >= RENEW_MS)
			ereport(ERROR,
					(errcode(ERRCODE_CONNECTION_FAILURE),
					 errmsg("the lease of partitions of source \"%s\" has run out: control topic \"%s\" does not answer", source->name, source->control_topic)));
		mr_wait_latch(2);
		listen(source);
	}
}

/*
 * Open the control topic, and hear what is in it; outside a transaction.  False, with the reason, if that is not
 * possible now.
 */
bool
kfk_share_begin(const kfk_source *source, char *error, size_t error_size)
{
	kfk_instant began = kfk_instant_now();
	MemoryContext old;

	if (!kfk_control_open(source, error, error_size))
		return false;
	cxt = AllocSetContextCreate(TopMemoryContext, "millrace shares", ALLOCSET_DEFAULT_SIZES);
	last_nonce = pg_prng_uint64(&pg_global_prng_state) >> 2;
	old = MemoryContextSwitchTo(cxt);
	mr_begin("read who we are");
	me = psprintf("%s/%u/%s", mr_source_binding(), GetWALInsertionTimeLine(), source->name);
	mr_commit();
	shares = kfk_load_shares(source, &n_shares);
	MemoryContextSwitchTo(old);
	while (!kfk_control_at_end())
	{
		listen(source);
		if (kfk_at_most_since(began) >= OPEN_MS)
		{
			snprintf(error, error_size, "it could not be read to its end");
			kfk_share_close();
			return false;
		}
		mr_wait_latch(2);
	}
	return true;
}
