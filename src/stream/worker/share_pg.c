/*
 * share_pg.c
 *	  A worker's part in sharing a topic with other servers: it hears the control
 *	  topic, claims what it is asked to take, renews the lease of what it holds,
 *	  gives up what it is asked to release, and stops where another took over.
 *	  The protocol and its proof: docs/sharing.md.
 *
 * The database is written between batches only; hearing and renewing goes on
 * within a batch's transaction too, when its lease has run out.
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
#define FIRST_MS 2000			/* for the first renewals to be heard, before partitions are assigned */
#define RENEW_MS 2000			/* for a renewal within a transaction */
#define REPEAT_MS 5000			/* what was said and not heard is said again after this */

static MemoryContext cxt = NULL;
static kfk_share *shares = NULL;
static int	n_shares = 0;
static char *me = NULL;			/* our identity */
static uint64 last_nonce;
static bool changed = false;	/* which partitions are ours has changed */

/* ---- clocks ---- */

static int64
clock_ms(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (int64) t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static kfk_instant
instant_now(void)
{
	return (kfk_instant) {clock_ms(CLOCK_BOOTTIME), clock_ms(CLOCK_REALTIME)};
}

/* At most, and at least, so long ago: by the clock that went further, and by the other. */
static int64
at_most_since(kfk_instant then)
{
	kfk_instant now = instant_now();

	return Max(now.boot - then.boot, now.real - then.real);
}

static int64
at_least_since(kfk_instant then)
{
	kfk_instant now = instant_now();

	return Min(now.boot - then.boot, now.real - then.real);
}

/* How long a taker waits for an owner with this lease: half of it more, for a commit that was begun within. */
static int
silence_of(int lease_ms)
{
	return lease_ms + lease_ms / 2;
}

/* ---- what is ours ---- */

void
kfk_share_close(void)
{
	kfk_control_close();
	if (cxt)
		MemoryContextDelete(cxt);
	cxt = NULL;
	shares = NULL;
	n_shares = 0;
	changed = false;
}

static kfk_share *
share_of(int32 partition)
{
	for (int i = 0; i < n_shares; i++)
		if (shares[i].partition == partition)
			return &shares[i];
	return NULL;
}

/* Does the control topic say that it is ours? */
static bool
is_mine(const kfk_share *s)
{
	return s->known && strcmp(s->ruling.owner, me) == 0;
}

static bool
lease_holds(const kfk_source *source, const kfk_share *s)
{
	return is_mine(s) && s->leased && at_most_since(s->lease_from) < source->lease_ms;
}

bool
kfk_share_owns(int32 partition)
{
	kfk_share  *s = share_of(partition);

	return s != NULL && s->state == KFK_OWNED;
}

/* Identities differ in nothing but the timeline: the other was promoted from a standby of the first, or the other way. */
static bool
is_other_timeline(const char *a, const char *b)
{
	for (int slashes = 0; *a == *b && *a; a++, b++)
		if (*a == '/' && ++slashes == 3)
		{
			a += strcspn(a + 1, "/");
			b += strcspn(b + 1, "/");
		}
	return *a == *b;
}

/* ---- hearing ---- */

/*
 * A word counts if its tenure is the highest we know of, or the first of two
 * claims of one epoch: all servers hear the same order and judge alike.
 */
static void
hear(const kfk_word *w)
{
	kfk_share  *s = share_of(w->partition);
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
			s->heard.boot + silence_of(rules->lease_ms) > s->quiet_from.boot + s->quiet_ms)
		{
			s->quiet_from = s->heard;
			s->quiet_ms = silence_of(rules->lease_ms);
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
	rules->next = Max(rules->next, w->next);
	rules->lease_ms = w->lease_ms;
	rules->released = w->released;
	if (rules->released)
		s->quiet_ms = 0;		/* it has waited for that */
	s->heard = instant_now();
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
		if (shares[i].said && at_most_since(shares[i].asked_at) > source->lease_ms)
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

static void
say(const kfk_source *source, kfk_share *s, int64 epoch, int64 claim, int64 start, int64 next, bool released)
{
	kfk_word	w = {.partition = s->partition,.owner = me,.epoch = epoch,.claim = claim,.start = start,.next = Max(next, start),
		.lease_ms = source->lease_ms,.released = released,.nonce = ++last_nonce
	};
	char		error[512];

	/* What others rely on must be on disk: an offset that a crash takes back would be a gap. */
	flush();
	s->said_at = instant_now();
	if (!s->said)
		s->asked_at = s->said_at;
	s->said = true;
	s->nonce = w.nonce;
	if (!kfk_control_say(source, &w, error, sizeof(error)))
		ereport(LOG, (errmsg("source \"%s\", control topic \"%s\": %s", source->name, source->control_topic, kfk_plain(error))));
}

/* Say again that it is ours. */
static void
renew(const kfk_source *source, kfk_share *s)
{
	say(source, s, s->ruling.epoch, s->ruling.claim, s->ruling.start, Max(s->next_offset, s->ruling.next), false);
}

/* Renew every third of the lease. */
static void
keep_leases(const kfk_source *source)
{
	for (int i = 0; i < n_shares; i++)
	{
		kfk_share  *s = &shares[i];

		if ((s->state == KFK_OWNED || s->state == KFK_CLAIMED) && is_mine(s) && !s->ruling.released &&
			(s->said || s->leased ? at_most_since(s->said_at) >= source->lease_ms / 3 : true))
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
	kfk_instant began = instant_now();
	bool		asked = false;

	if (source->control_topic == NULL)
		return true;
	for (;;)
	{
		bool		all = true;

		for (int i = 0; i < n; i++)
		{
			const kfk_partition *p = &partitions[i];
			kfk_share  *s = share_of(p->partition);

			if (p->new_offset == p->next_offset && !p->redriven)
				continue;
			if (s == NULL || s->state != KFK_OWNED || !is_mine(s))
				return false;
			if (lease_holds(source, s))
				continue;
			all = false;
			if (!asked)
				renew(source, s);
		}
		if (all)
			return true;
		asked = true;
		if (at_most_since(began) >= RENEW_MS)
			ereport(ERROR,
					(errcode(ERRCODE_CONNECTION_FAILURE),
					 errmsg("the lease of partitions of source \"%s\" has run out: control topic \"%s\" does not answer", source->name, source->control_topic)));
		kfk_wait_latch(2);
		listen(source);
	}
}

/* ---- what becomes of a partition ---- */

static void wait_for(const kfk_source *source, kfk_share *s, const char *fmt,...) __attribute__((format(printf, 3, 4)));

/* It is not ours yet: why. */
static void
wait_for(const kfk_source *source, kfk_share *s, const char *fmt,...)
{
	char		reason[sizeof(s->reason)];
	va_list		list;

	va_start(list, fmt);
	vsnprintf(reason, sizeof(reason), fmt, list);
	va_end(list);
	if (strcmp(reason, s->reason) == 0)
		return;
	strlcpy(s->reason, reason, sizeof(s->reason));
	kfk_note_reason(source, s);
}

/* Write down that we claim it, then claim it. */
static void
claim(const kfk_source *source, kfk_share *s, int64 start, const char *doubled)
{
	int64		epoch = (s->known ? s->ruling.epoch : Max(s->epoch, s->claim_epoch)) + 1;

	if (!kfk_note_claim(source, s, epoch, start, doubled))
		return;
	s->claim_epoch = epoch;
	s->pending = true;
	say(source, s, epoch, -1, start, start, false);
}

/* Its owner has not released it: claim it nevertheless, if that was asked for, he is silent and we know where to begin. */
static void
take_over(const kfk_source *source, kfk_share *s)
{
	const kfk_word *rules = &s->ruling;
	int			silence = silence_of(rules->lease_ms);
	int64		start = s->from_offset >= 0 ? s->from_offset : rules->next;

	if (!s->take_over)
		wait_for(source, s, "partition %d is held by %s with epoch " INT64_FORMAT ": release_partitions() there, or take_over() if it is gone",
				 s->partition, rules->owner, rules->epoch);
	else if (start < rules->start)
		wait_for(source, s, "partition %d: offset " INT64_FORMAT " lies before " INT64_FORMAT ", where its owner %s began: the copy that told it is too old",
				 s->partition, start, rules->start, rules->owner);
	else if (start < rules->next && !s->accept_duplicates)
		wait_for(source, s, "partition %d: its owner %s has committed up to offset " INT64_FORMAT ", " INT64_FORMAT " was given: ask the copy again, or accept_duplicates",
				 s->partition, rules->owner, rules->next, start);
	else if (at_least_since(s->heard) < silence)
		wait_for(source, s, "partition %d: its owner %s has not been silent for %d ms yet", s->partition, rules->owner, silence);
	else
		claim(source, s, start, s->from_offset < 0 ? psprintf("[" INT64_FORMAT ",)", start) :
			  start < rules->next ? psprintf("[" INT64_FORMAT "," INT64_FORMAT ")", start, rules->next) : NULL);
}

static void lose(const kfk_source *source, kfk_share *s);

/* Asked for and not claimed. */
static void
take(const kfk_source *source, kfk_client *client, kfk_share *s)
{
	char		error[512];
	int64		start;

	if (s->said && at_most_since(s->said_at) < REPEAT_MS)
		return;
	if (s->pending && s->take_over && s->known && !is_mine(s) && s->ruling.epoch >= s->claim_epoch)
		lose(source, s);		/* another one was first: to take it from him must be asked for anew */
	else if (s->known && s->ruling.released)
		claim(source, s, s->ruling.next, NULL);
	else if (is_mine(s) && (s->ruling.epoch == s->claim_epoch || s->ruling.epoch == s->epoch))
		s->state = KFK_CLAIMED;
	else if (is_mine(s) && !s->take_over)
		wait_for(source, s, "partition %d: the control topic says that this server has it with epoch " INT64_FORMAT ", this database knows of " INT64_FORMAT
				 ": it was restored, or the source made anew; take_over() with its offset", s->partition, s->ruling.epoch, s->claim_epoch);
	else if (s->known)
		take_over(source, s);
	else if (s->take_over && s->from_offset >= 0)
		claim(source, s, s->from_offset, NULL);
	else if (s->epoch > 0)
		wait_for(source, s, "partition %d: the control topic knows nothing of it, which this server had with epoch " INT64_FORMAT ": take_over() with its offset",
				 s->partition, s->epoch);
	else if (kfk_start_of(source, client, s->partition, &start, error, sizeof(error)))
		claim(source, s, start, NULL);
	else
		wait_for(source, s, "partition %d: %s", s->partition, error);
}

/* With the last partition the source has nothing more to do, and must not seem to. */
static void
halt_if_all_lost(const kfk_source *source, const kfk_share *s)
{
	char	   *reason;

	if (!kfk_all_lost(source))
		return;
	reason = pstrdup(s->reason);
	kfk_share_close();
	kfk_halt(source, "%s", reason);
}

/* Somebody else has it, or nobody knows of us. */
static void
lose(const kfk_source *source, kfk_share *s)
{
	if (s->known)
		snprintf(s->reason, sizeof(s->reason), "partition %d was taken over by %s with epoch " INT64_FORMAT " at offset " INT64_FORMAT, s->partition,
				 s->ruling.owner, s->ruling.epoch, s->next_start >= 0 ? s->next_start : s->ruling.start);
	else
		snprintf(s->reason, sizeof(s->reason), "partition %d: control topic \"%s\" knows nothing of epoch " INT64_FORMAT ": it was made anew",
				 s->partition, source->control_topic, s->epoch);
	if (s->next_start >= 0 && s->next_offset > s->next_start)
		snprintf(s->reason + strlen(s->reason), sizeof(s->reason) - strlen(s->reason), "; offsets to " INT64_FORMAT " were committed here too: doubled", s->next_offset - 1);
	else if (s->next_start >= 0 && s->next_offset >= 0 && s->next_offset < s->next_start)
		snprintf(s->reason + strlen(s->reason), sizeof(s->reason) - strlen(s->reason), "; here offset " INT64_FORMAT " was next: those between are missing", s->next_offset);
	s->state = KFK_LOST;
	changed = true;
	ereport(LOG, (errmsg("source \"%s\": %s", source->name, s->reason)));
	if (kfk_note_lost(source, s))
		halt_if_all_lost(source, s);
}

/* Held, as the database says. */
static void
hold(const kfk_source *source, kfk_share *s)
{
	if (is_mine(s) && s->ruling.epoch == s->epoch && !s->ruling.released)
		return;
	if (s->known && !is_mine(s) && !s->ruling.released && s->ruling.epoch == s->epoch && is_other_timeline(s->ruling.owner, me))
	{
		/* This server was a standby of its owner, and is so no longer. */
		if (kfk_note_promoted(source, s))
		{
			s->state = KFK_TAKING;
			s->take_over = s->accept_duplicates = true;
			s->from_offset = s->next_offset;
			changed = true;
		}
		return;
	}
	lose(source, s);
}

/* Given up: tell it, once nobody before us can commit any more. */
static void
release(const kfk_source *source, kfk_share *s)
{
	if (s->known && is_mine(s) && !s->ruling.released)
	{
		bool		had = s->ruling.epoch == s->epoch;

		if ((s->said && at_most_since(s->said_at) < REPEAT_MS) || (!had && at_least_since(s->quiet_from) < s->quiet_ms))
			return;
		say(source, s, s->ruling.epoch, s->ruling.claim, s->ruling.start, had ? s->next_offset : s->ruling.start, true);
	}
	else if (s->state == KFK_RELEASING && s->known && kfk_note_released(source, s))
		s->state = KFK_RELEASED;
}

/*
 * One turn, outside a transaction: hear, keep the leases, bring about what is asked for.  partitions are those held, as
 * they stand.  True: which of them are ours has changed.
 */
bool
kfk_share_turn(const kfk_source *source, kfk_client *client, const kfk_partition *partitions, int n)
{
	for (int i = 0; i < n; i++)
	{
		kfk_share  *s = share_of(partitions[i].partition);

		if (s != NULL)
			s->next_offset = partitions[i].next_offset;
	}
	kfk_share_listen(source);
	if (!kfk_control_at_end())
		return false;
	for (int i = 0; i < n_shares; i++)
	{
		kfk_share  *s = &shares[i];

		if (s->state == KFK_TAKING)
			take(source, client, s);
		if (s->state == KFK_CLAIMED && !is_mine(s))
			s->state = KFK_TAKING;
		if (s->state == KFK_CLAIMED && at_least_since(s->quiet_from) >= s->quiet_ms && lease_holds(source, s))
		{
			if (!kfk_note_owned(source, s, me))
				continue;
			s->epoch = s->ruling.epoch;
			s->next_start = -1;
			s->pending = s->take_over = false;
			s->reason[0] = '\0';
			s->state = KFK_OWNED;
			changed = true;
		}
		if (s->state == KFK_OWNED)
			hold(source, s);
		if (s->state == KFK_RELEASING || s->state == KFK_RELEASED)
			release(source, s);
	}
	if (!changed)
		return false;
	changed = false;
	return true;
}

/* Something is on its way that should not wait for a second. */
bool
kfk_share_is_busy(void)
{
	for (int i = 0; i < n_shares; i++)
		if (shares[i].said || shares[i].state == KFK_CLAIMED || shares[i].state == KFK_RELEASING)
			return true;
	return false;
}

/* What the worker waits for; NULL: nothing.  In the current context. */
char *
kfk_share_reason(void)
{
	kfk_share  *first = NULL;
	int			more = -1;

	for (int i = 0; i < n_shares; i++)
		if (shares[i].reason[0] != '\0' && shares[i].state != KFK_OWNED)
		{
			first = first ? first : &shares[i];
			more++;
		}
	if (first == NULL)
		return NULL;
	return more > 0 ? psprintf("%s; and %d more in source_shares", first->reason, more) : pstrdup(first->reason);
}

/*
 * Open the control topic, unless it is open; outside a transaction.  False, with the reason, if that is not possible now.
 */
bool
kfk_share_open(const kfk_source *source, kfk_client *client, char *error, size_t error_size)
{
	static int	worker,
				workers;		/* that it is open for: which partitions are whose */
	kfk_instant began = instant_now();
	MemoryContext old;
	bool		settled = false;

	if (shares != NULL && source->worker == worker && source->workers == workers)
		return true;
	kfk_share_close();
	worker = source->worker;
	workers = source->workers;
	if (!kfk_control_open(source, error, error_size))
		return false;
	cxt = AllocSetContextCreate(TopMemoryContext, "millrace shares", ALLOCSET_DEFAULT_SIZES);
	last_nonce = pg_prng_uint64(&pg_global_prng_state) >> 2;
	old = MemoryContextSwitchTo(cxt);
	kfk_begin("read who we are");
	me = psprintf("%s/%u/%s", mr_source_binding(), GetWALInsertionTimeLine(), source->name);
	kfk_commit();
	shares = kfk_load_shares(source, &n_shares);
	MemoryContextSwitchTo(old);
	while (!kfk_control_at_end())
	{
		listen(source);
		if (at_most_since(began) >= OPEN_MS)
		{
			snprintf(error, error_size, "it could not be read to its end");
			kfk_share_close();
			return false;
		}
		kfk_wait_latch(2);
	}

	for (int i = 0; i < n_shares; i++)
		if (shares[i].state == KFK_LOST)
			halt_if_all_lost(source, &shares[i]);	/* resumed, and lost still */

	/* What is ours already is read from the start. */
	began = instant_now();
	while (!settled && at_most_since(began) < FIRST_MS)
	{
		(void) kfk_share_turn(source, client, NULL, 0);
		settled = true;
		for (int i = 0; i < n_shares; i++)
			settled = settled && !shares[i].said;
		kfk_wait_latch(2);
	}
	return true;
}
