/*
 * isolate_pg.c
 *	  A batch to its end, whatever it meets: trouble is waited out and tried
 *	  again for ever, data errors are narrowed down to one message, which then
 *	  goes to the dead letters.
 *
 * A batch is first tried as a whole.  Where that has failed, and for as long as
 * errors are frequent, its rows are inserted in pieces (pieces_pg.c), within one
 * transaction.
 */
#include "postgres.h"

#include "stream/worker/source.h"

#include "common/pg_prng.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "core/failpoint.h"

#define RETRY_MS 50				/* first pause after trouble; doubles ... */
#define RETRY_MAX_MS 10000		/* ... up to here */

/* A pause of attempt 0, 1, ...: doubling, a quarter of it by chance. */
static int
pause_ms(int attempt)
{
	int			ms = attempt < 8 ? RETRY_MS << attempt : RETRY_MAX_MS;

	return ms * 3 / 4 + (int) pg_prng_uint64_range(&pg_global_prng_state, 0, (uint64) (ms / 4));
}

/* The message is no row because the INSERT said so. */
void
kfk_reject(kfk_item *item, const kfk_failure *failure, MemoryContext cxt)
{
	const ErrorData *error = failure->error;
	MemoryContext old = MemoryContextSwitchTo(cxt);

	item->rejected = true;
	item->stage = failure->stage;
	item->sqlstate = pstrdup(unpack_sql_state(error->sqlerrcode));
	item->error = pstrdup(error->message ? error->message : "unknown error");
	if (error->detail && error->context)
		item->detail = psprintf("%s\n%s", error->detail, error->context);
	else if (error->detail || error->context)
		item->detail = pstrdup(error->detail ? error->detail : error->context);
	MemoryContextSwitchTo(old);
}

/*
 * Commit all items (memory of decoding and errors from cxt), in one
 * transaction if all goes well.  KFK_COMMITTED or KFK_FENCED.
 */
kfk_outcome
kfk_batch(const kfk_source *source, kfk_partition *partitions, int n_partitions,
		  kfk_item *items, int n, MemoryContext cxt)
{
	int			done = 0;
	int			limit = n;
	int			attempt = 0;
	bool		halve = false;	/* the last slice failed as it was: in shorter ones, until one item is left */

	while (done < n)
	{
		bool		in_pieces;
		int			len = kfk_expect_rejects(Min(n - done, limit), &in_pieces);
		kfk_failure failure;
		const ErrorData *error;

		if (!kfk_know_schemas(source, items + done, len))
		{
			mr_nap(pause_ms(attempt++));
			kfk_check_source(source);
			continue;
		}
		switch (kfk_run_slice(source, partitions, n_partitions, items + done, len, in_pieces && !halve, cxt, &failure))
		{
			case KFK_COMMITTED:
				if (attempt > 0)
					kfk_report(source, "running", NULL, NULL);
				attempt = 0;
				done += len;
				kfk_check_rate(source);
				limit = limit > n / 2 ? n : limit * 2;
				halve = false;
				if (!in_pieces)
					kfk_note_good(len);
				break;
			case KFK_BAD_DATA:
				MR_FAILPOINT("source.isolate");
				attempt = 0;
				if (len == 1)
				{
					kfk_reject(&items[done], &failure, cxt);
					halve = false;
				}
				else if (in_pieces)	/* none of them failed: the end of the transaction did */
				{
					halve = true;
					limit = len / 2;
				}
				else
					kfk_note_failure(len);
				break;
			case KFK_FULL:
				if (failure.fit == 0)
					kfk_stop_full(source);
				limit = failure.fit;
				break;
			case KFK_TROUBLE:
				error = failure.error;

				/* A batch that takes too long or too much may pass in pieces. */
				if (ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_INSUFFICIENT_RESOURCES || error->sqlerrcode == ERRCODE_QUERY_CANCELED)
					limit = Max(len / 2, 1);
				if (attempt > 1 || (error->sqlerrcode != ERRCODE_T_R_DEADLOCK_DETECTED && error->sqlerrcode != ERRCODE_T_R_SERIALIZATION_FAILURE))
					kfk_report(source, "waiting", unpack_sql_state(error->sqlerrcode), error->message);
				mr_nap(pause_ms(attempt++));
				kfk_check_source(source);
				break;
			case KFK_GONE:
				mr_nap(100);
				break;
			case KFK_FENCED:
				return KFK_FENCED;
		}
	}
	return KFK_COMMITTED;
}
