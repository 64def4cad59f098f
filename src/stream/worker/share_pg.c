/*
 * share_pg.c
 *	  A worker's part in sharing a topic with other servers: it claims what it is
 *	  asked to take, gives up what it is asked to release, and stops where another
 *	  took over.  Who has what is judged in lease_pg.c.  The protocol and its
 *	  proof: docs/sharing.md.
 *
 * Runs between batches only, for it writes to the database.
 *
 * Memory: the caller's.  Locks: none between its transactions.
 */
#include "postgres.h"

#include "stream/worker/share.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#define FIRST_MS 2000			/* for the first renewals to be heard, before partitions are assigned */
#define REPEAT_MS 5000			/* what was said and not heard is said again after this */

static bool changed = false;	/* which partitions are ours has changed */

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
	kfk_say(source, s, epoch, -1, start, start, false);
}

/* Its owner has not released it: claim it nevertheless, if that was asked for, he is silent and we know where to begin. */
static void
take_over(const kfk_source *source, kfk_share *s)
{
	const kfk_word *rules = &s->ruling;
	int			silence = kfk_silence_of(rules->lease_ms);
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
	else if (kfk_at_least_since(s->heard) < silence)
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

	if (s->said && kfk_at_most_since(s->said_at) < REPEAT_MS)
		return;
	if (s->pending && s->take_over && s->known && !kfk_is_mine(s) && s->ruling.epoch >= s->claim_epoch)
		lose(source, s);		/* another one was first: to take it from him must be asked for anew */
	else if (s->known && s->ruling.released)
		claim(source, s, s->ruling.next, NULL);
	else if (kfk_is_mine(s) && (s->ruling.epoch == s->claim_epoch || s->ruling.epoch == s->epoch))
		s->state = KFK_CLAIMED;
	else if (kfk_is_mine(s) && !s->take_over)
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
	if (kfk_is_mine(s) && s->ruling.epoch == s->epoch && !s->ruling.released)
		return;
	if (s->known && !kfk_is_mine(s) && !s->ruling.released && s->ruling.epoch == s->epoch && is_other_timeline(s->ruling.owner, kfk_identity()))
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
	if (s->known && kfk_is_mine(s) && !s->ruling.released)
	{
		bool		had = s->ruling.epoch == s->epoch;

		if ((s->said && kfk_at_most_since(s->said_at) < REPEAT_MS) || (!had && kfk_at_least_since(s->quiet_from) < s->quiet_ms))
			return;
		kfk_say(source, s, s->ruling.epoch, s->ruling.claim, s->ruling.start, had ? s->next_offset : s->ruling.start, true);
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
	int			n_shares;
	kfk_share  *shares = kfk_shares(&n_shares);

	for (int i = 0; i < n; i++)
	{
		kfk_share  *s = kfk_share_of(partitions[i].partition);

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
		if (s->state == KFK_CLAIMED && !kfk_is_mine(s))
			s->state = KFK_TAKING;
		if (s->state == KFK_CLAIMED && kfk_at_least_since(s->quiet_from) >= s->quiet_ms && kfk_lease_holds(source, s))
		{
			if (!kfk_note_owned(source, s, kfk_identity()))
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
	int			n_shares;
	const kfk_share *shares = kfk_shares(&n_shares);

	for (int i = 0; i < n_shares; i++)
		if (shares[i].said || shares[i].state == KFK_CLAIMED || shares[i].state == KFK_RELEASING)
			return true;
	return false;
}

/* What the worker waits for; NULL: nothing.  In the current context. */
char *
kfk_share_reason(void)
{
	int			n_shares;
	const kfk_share *shares = kfk_shares(&n_shares);
	const kfk_share *first = NULL;
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
 * Open the control topic, unless it is open, and take up what is ours; outside a transaction.  False, with the reason,
 * if that is not possible now.
 */
bool
kfk_share_open(const kfk_source *source, kfk_client *client, char *error, size_t error_size)
{
	static int	worker,
				workers;		/* that it is open for: which partitions are whose */
	kfk_instant began;
	kfk_share  *shares;
	int			n_shares;
	bool		settled = false;

	if (kfk_shares(&n_shares) != NULL && source->worker == worker && source->workers == workers)
		return true;
	kfk_share_close();
	changed = false;
	worker = source->worker;
	workers = source->workers;
	if (!kfk_share_begin(source, error, error_size))
		return false;
	shares = kfk_shares(&n_shares);
	for (int i = 0; i < n_shares; i++)
		if (shares[i].state == KFK_LOST)
			halt_if_all_lost(source, &shares[i]);	/* resumed, and lost still */

	/* What is ours already is read from the start. */
	began = kfk_instant_now();
	while (!settled && kfk_at_most_since(began) < FIRST_MS)
	{
		(void) kfk_share_turn(source, client, NULL, 0);
		settled = true;
		for (int i = 0; i < n_shares; i++)
			settled = settled && !shares[i].said;
		mr_wait_latch(2);
	}
	return true;
}
