/*
 * quota_pg.c
 *	  When a source has too many dead letters it halts by itself: rather the
 *	  source is at fault, or its target, than the messages.
 *
 * Two bounds.  The error rate: dead letters among the last dead_window messages
 * of this worker, more than max_dead_percent of them; also before so many have
 * come.  The message that exceeds it is still put aside, so that a source that
 * is resumed gets on.  The quota: letters that the source has in dead_letters,
 * and their bytes.  The message that would exceed it is neither put aside nor
 * passed over: it is the next one when the source is resumed.
 *
 * A batch is asked about before its letters are written, and cut where a bound
 * is met, so that its size makes no difference.  Letters are counted in the
 * table only when those since the last count, were all workers as busy, could
 * have used up what was left; hence several workers together can exceed a quota
 * by what one of them did not know of the others, for at most COUNT_MS.
 *
 * Both begin anew with the worker: it ends whenever its source is resumed, or
 * changed otherwise.  Letters that are redriven count for neither.
 */
#include "postgres.h"

#include "stream/worker/source.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "core/spi_pg.h"

#define COUNT_MS 5000			/* a count of the table is believed no longer */
#define SHOWN 200				/* bytes of the last error in a reason */

/* The last dead_window messages, a byte each: 1 was a dead letter. */
static struct
{
	uint8	   *dead;
	int			size;
	int			next;			/* where the next message goes */
	int			seen;			/* up to size */
	int			n_dead;			/* among them */
}			window;

/* Letters in the table. */
typedef struct tally
{
	int64		letters;
	int64		bytes;
} tally;

static tally counted;			/* in the table, at counted_at */
static tally since;				/* by this worker since then */
static TimestampTz counted_at = 0;
static char last_error[SHOWN + 32];	/* of the letter met last, "22P02: ..." */

/* A message that becomes, or became, a new letter. */
static bool
is_letter(const kfk_item *item)
{
	return item->sqlstate != NULL && item->letter == 0 && !item->message.end;
}

static int64
bytes_of(const kfk_source *source, const kfk_item *item)
{
	const kfk_message *m = &item->message;
	bool		keep = (int64) m->value_len <= Min(source->max_message_bytes, source->dead_letter_value_bytes);

	return (int64) (m->key_len + (keep ? m->value_len : 0));
}

static bool
has_quota(const kfk_source *source)
{
	return source->max_dead_letters < PG_INT64_MAX || source->max_dead_letter_bytes < PG_INT64_MAX;
}

static void
count_letters(const kfk_source *source)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {TEXTOID};
	Datum		args[] = {CStringGetTextDatum(source->name)};
	mr_owner_save save;
	bool		null;

	mr_spi_begin(&save);
	mr_prepare(&plan, "SELECT pg_catalog.count(*), coalesce(pg_catalog.sum(coalesce(pg_catalog.octet_length(key), 0)::pg_catalog.int8 "
			   "OPERATOR(pg_catalog.+) coalesce(pg_catalog.octet_length(value), 0)::pg_catalog.int8), 0)::pg_catalog.int8 "
			   "FROM millrace.dead_letters WHERE source OPERATOR(pg_catalog.=) $1", 1, types);
	SPI_execute_plan(plan, args, NULL, true, 0);
	counted.letters = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &null));
	counted.bytes = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &null));
	since = (tally) {0, 0};
	counted_at = GetCurrentTimestamp();
	mr_spi_end(&save);
}

/* With these more in the table, would a bound be exceeded?  Others: as many workers as are believed to do as we did. */
static bool
exceeds(const kfk_source *source, const tally *more, int others)
{
	return counted.letters + (since.letters + more->letters) * (1 + others) > source->max_dead_letters ||
		counted.bytes + (since.bytes + more->bytes) * (1 + others) > source->max_dead_letter_bytes;
}

/* How many of the items from the first on the quota allows. */
static int
quota_allows(const kfk_source *source, const kfk_item *items, int n)
{
	tally		more = {0, 0};
	int			i;

	for (i = 0; i < n; i++)
		if (is_letter(&items[i]))
		{
			more.letters++;
			more.bytes += bytes_of(source, &items[i]);
		}
	if (more.letters == 0)
		return n;
	if (counted_at == 0 || exceeds(source, &more, source->workers - 1) ||
		TimestampDifferenceExceeds(counted_at, GetCurrentTimestamp(), COUNT_MS))
		count_letters(source);
	if (!exceeds(source, &more, 0))
		return n;
	more = (tally) {0, 0};
	for (i = 0; i < n; i++)
	{
		if (!is_letter(&items[i]))
			continue;
		more.letters++;
		more.bytes += bytes_of(source, &items[i]);
		if (exceeds(source, &more, 0))
			break;
	}
	return i;
}

static bool
over_rate(const kfk_source *source, int64 dead)
{
	return source->max_dead_percent < 100 && dead * 100 > (int64) source->max_dead_percent * source->dead_window;
}

/* How many of the items it takes to exceed the rate, with the one that does; n if they do not. */
static int
rate_allows(const kfk_source *source, const kfk_item *items, int n)
{
	int			dead = window.n_dead;
	int			seen = window.seen;
	int			out = window.seen < window.size ? 0 : window.next;	/* leaves the window next */
	int			first_in = 0;	/* item that does, once the window's own have left */
	int			left = window.seen;

	for (int i = 0; i < n; i++)
	{
		if (items[i].message.end || items[i].letter != 0)
			continue;
		if (seen < source->dead_window)
			seen++;
		else if (left > 0)
		{
			dead -= window.dead[out];
			out = (out + 1) % window.size;
			left--;
		}
		else
		{
			while (items[first_in].message.end || items[first_in].letter != 0)
				first_in++;
			dead -= is_letter(&items[first_in++]);
		}
		dead += is_letter(&items[i]);
		if (over_rate(source, dead))
			return i + 1;
	}
	return n;
}

/*
 * How many items, from the first on, may commit at once: past them a bound is
 * met.  0: not one (kfk_stop_full).  In a transaction; they are decoded.
 */
int
kfk_letters_allowed(const kfk_source *source, const kfk_item *items, int n)
{
	int			fit = rate_allows(source, items, n);
	int			last;

	if (has_quota(source))
		fit = quota_allows(source, items, fit);

	/* For the reason: the letter that is one too many, or the last that is not. */
	last = fit < n && fit == 0 ? 0 : fit - 1;
	while (last >= 0 && !is_letter(&items[last]))
		last--;
	if (last >= 0)
		snprintf(last_error, sizeof(last_error), "%s: %.*s", items[last].sqlstate,
				 pg_mbcliplen(items[last].error, (int) strlen(items[last].error), SHOWN), items[last].error);
	return fit;
}

/* These items are committed. */
void
kfk_note_letters(const kfk_source *source, const kfk_item *items, int n)
{
	if (window.size == 0)
	{
		window.size = source->dead_window;
		window.dead = MemoryContextAllocZero(TopMemoryContext, (Size) window.size);
	}
	for (int i = 0; i < n; i++)
	{
		bool		dead = is_letter(&items[i]);

		if (items[i].message.end || items[i].letter != 0)
			continue;
		if (window.seen < window.size)
			window.seen++;
		else
			window.n_dead -= window.dead[window.next];
		window.dead[window.next] = dead;
		window.n_dead += dead;
		window.next = (window.next + 1) % window.size;
		if (dead)
		{
			since.letters++;
			since.bytes += bytes_of(source, &items[i]);
		}
	}
}

/* Halt if the last messages were dead letters at too high a rate. */
void
kfk_check_rate(const kfk_source *source)
{
	if (over_rate(source, window.n_dead))
		kfk_stop(source, "53400",
				 psprintf("%d of the last %d messages went to dead_letters, more than max_dead_percent (%d) of dead_window (%d) allows; "
						  "the last one: %s; they are in millrace.dead_letters where source = %s; mend the cause, then millrace.resume_source goes on behind them",
						  window.n_dead, window.seen, source->max_dead_percent, source->dead_window, last_error, quote_literal_cstr(source->name)));
}

/* Halt: the next message is one letter too many. */
void
kfk_stop_full(const kfk_source *source)
{
	bool		by_number = counted.letters + since.letters >= source->max_dead_letters;

	kfk_stop(source, "53400",
			 psprintf("the source has " INT64_FORMAT " dead letters of " INT64_FORMAT " bytes, and %s (" INT64_FORMAT ") allows no more; "
					  "the next one: %s; redrive or delete some (redrive_dead_letters, purge_dead_letters), or raise it (alter_source), then millrace.resume_source goes on with that message",
					  counted.letters + since.letters, counted.bytes + since.bytes, by_number ? "max_dead_letters" : "max_dead_letter_bytes",
					  by_number ? source->max_dead_letters : source->max_dead_letter_bytes, last_error));
}
