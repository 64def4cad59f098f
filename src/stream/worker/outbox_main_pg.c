/*
 * outbox_main_pg.c
 *	  Life of an outbox worker: claim a batch, send it in one Kafka transaction
 *	  together with its progress record, confirm it with the next claim.
 *
 * No database transaction is open while Kafka is waited for.  Whatever goes
 * wrong with a Kafka transaction, its producer is closed, another is opened,
 * which ends what the first left, and the progress topic says whether the batch
 * is there: a batch in doubt is never guessed at.
 *
 * Memory: the outbox and the batch in contexts of their own.  Locks: none
 * between transactions.
 */
#include "postgres.h"

#include "stream/worker/outbox_worker.h"

#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "core/compat.h"
#include "core/failpoint.h"
#include "core/meter_pg.h"
#include "core/process_pg.h"
#include "core/shared_pg.h"
#include "stream/outbox.h"
#include "stream/worker/source.h"

#define IDLE_MS 1000			/* longest nap; publishing wakes us */
#define CALL_MS 200				/* in one call of the library */
#define ASK_MS 5000				/* for one answer of a broker */
#define ROTATE_MS 2000			/* between attempts to empty a leaf that is not done with */

extern PGDLLEXPORT void millrace_outbox_main(Datum arg);

static kfk_producer *producer = NULL;
static bool landed = false;		/* the batch claimed last is in Kafka, and the table does not say so yet */

static void
close_producer(void)
{
	kfk_producer *p = producer;

	producer = NULL;
	kfk_producer_close(p);
}

/* Before the library's destructors: its threads must be gone by then. */
static void
close_at_exit(int code, Datum arg)
{
	close_producer();
	kfk_close_progress();
}

static char told_topics[sizeof(((kfk_outbox *) 0)->topics_reason)] = "";	/* topics_reason, as last reported */

/* That it works, and which topics are not ready. */
static void
report_running(const kfk_outbox *outbox)
{
	strlcpy(told_topics, outbox->topics_reason, sizeof(told_topics));
	kfk_outbox_report(outbox, "running", NULL, outbox->topics_reason[0] ? outbox->topics_reason : NULL);
}

/*
 * End if the outbox is paused, halted, dropped or was changed; looked at once a
 * second, or when told, and so is whether topics wait to be made.
 */
static void
check_outbox(kfk_outbox *outbox)
{
	static TimestampTz checked = 0;
	TimestampTz now = GetCurrentTimestamp();

	if (!mr_worker_changed() && now - checked < IDLE_MS * INT64CONST(1000))
		return;
	checked = now;
	if (kfk_outbox_unchanged(outbox))
		return;
	close_producer();
	kfk_outbox_report(outbox, "stopped", NULL, NULL);
	proc_exit(0);
}

static void
hear_events(const kfk_outbox *outbox)
{
	kfk_event	event;

	while (producer && kfk_producer_event(producer, &event))
		if (event.log)
			ereport(event.level <= 4 ? LOG : DEBUG1,
					(errmsg("outbox of server \"%s\": librdkafka: %s", outbox->server, mr_plain(event.text))));
		else
			kfk_outbox_report(outbox, "waiting", "08006", mr_plain(event.text));
}

/* Something did not work: say so, and begin again from the tables. */
static void
give_up(const kfk_outbox *outbox, kfk_sent sent, const char *error)
{
	hear_events(outbox);
	close_producer();
	if (sent == KFK_SENT_FENCED)
	{
		kfk_outbox_report(outbox, "waiting", "55000", "another producer has this outbox's transactional id: it has been taken over");
		proc_exit(1);
	}
	kfk_outbox_report(outbox, "waiting", "08006", mr_plain(error));
	mr_wait_latch(IDLE_MS);
}

/*
 * What the brokers have against what the table says.  A batch that is there is
 * confirmed with the next claim; one that is not is sent again; where the two
 * do not fit together, the outbox halts.
 */
static void
settle(const kfk_outbox *outbox, const char *theirs)
{
	int64		batch;
	int64		sent = 0;
	bool		confirmed;
	bool		adopt;
	char	   *ours = kfk_outbox_last_mark(outbox, &batch, &confirmed, &adopt);

	landed = false;
	if (theirs && sscanf(theirs, "{\"batch\": " INT64_FORMAT, &sent) != 1)
		sent = PG_INT64_MAX;
	if (adopt)
		kfk_outbox_adopt(outbox, theirs && sent < PG_INT64_MAX ? sent : 0);
	else if (ours == NULL && sent <= batch)
		;						/* nothing sent yet, or adopted and nothing since */
	else if (ours && theirs && strcmp(theirs, ours) == 0)
		landed = !confirmed;
	else if (confirmed || sent != batch - 1)
		kfk_outbox_halt(outbox,
						psprintf("the last batch in progress topic \"%s\" is %s, this database's is %s: one of the two was restored, or lost; "
								 "resume_outbox(accept_duplicates => true) goes on from what is here", outbox->progress_topic,
								 theirs ? mr_plain(theirs) : "none", ours ? ours : "none"));
}

/* Open the producer, end what an earlier one left, and settle what became of the last batch. */
static void
open_producer(kfk_outbox *outbox)
{
	kfk_settings settings;
	char		error[512];
	char	   *mark;
	kfk_sent	sent;
	MemoryContext cxt = CurrentMemoryContext;

	MR_FAILPOINT("outbox.open");
	mr_begin("read the server");
	MemoryContextSwitchTo(cxt);
	kfk_server_settings(outbox->server, &settings);
	for (int i = 0; i < settings.n; i++)
		((const char **) settings.values)[i] = pstrdup(settings.values[i]);
	mr_commit();
	MemoryContextSwitchTo(cxt);
	producer = kfk_producer_open(&settings, outbox->id, error, sizeof(error));
	if (producer == NULL)
	{
		give_up(outbox, KFK_SENT_NO, error);
		return;
	}
	while ((sent = kfk_producer_init(producer, CALL_MS, error, sizeof(error))) == KFK_SENT_WAIT)
	{
		hear_events(outbox);
		check_outbox(outbox);
		mr_wait_latch(1);
	}
	MR_FAILPOINT("outbox.after_init");
	if (sent != KFK_SENT_YES)
		give_up(outbox, sent, error);
	else if (!kfk_producer_make_compacted(producer, outbox->progress_topic, ASK_MS, error, sizeof(error)) ||
			 !kfk_read_progress(outbox, &settings, &mark, error, sizeof(error)))
		give_up(outbox, KFK_SENT_NO, psprintf("progress topic \"%s\": %s", outbox->progress_topic, error));
	else
	{
		MR_FAILPOINT("outbox.after_progress");
		settle(outbox, mark);
		MR_FAILPOINT("outbox.settled");
		kfk_outbox_topics(outbox, producer, true);
		report_running(outbox);
	}
}

/* One record, waiting for room in the library's queue. */
static kfk_sent
add(const kfk_outbox *outbox, const kfk_record *record, int64 mark, char *error, size_t error_size)
{
	kfk_sent	sent;

	while ((sent = kfk_producer_add(producer, record, mark, CALL_MS, error, error_size)) == KFK_SENT_WAIT)
		mr_wait_latch(1);
	return sent;
}

/* Send a batch.  True if it is in Kafka; if not, the producer is closed and the batch in doubt. */
static bool
send_batch(const kfk_outbox *outbox, const kfk_outbatch *batch)
{
	kfk_record	progress = {.topic = outbox->progress_topic,.key = outbox->id,.key_len = strlen(outbox->id),
		.value = batch->mark,.value_len = strlen(batch->mark)
	};
	char		error[512];
	int64		refused;
	kfk_sent	sent = kfk_producer_begin(producer, error, sizeof(error));

	MR_FAILPOINT("outbox.begin");
	for (int i = 0; i < batch->n && sent == KFK_SENT_YES; i++)
	{
		if (i == batch->n / 2)
			MR_FAILPOINT("outbox.half");
		sent = add(outbox, &batch->records[i], i, error, sizeof(error));
		if (i % 1000 == 999)
			CHECK_FOR_INTERRUPTS();
	}
	if (sent == KFK_SENT_YES)
		sent = add(outbox, &progress, batch->n, error, sizeof(error));
	MR_FAILPOINT("outbox.produced");
	if (sent == KFK_SENT_YES)
		while ((sent = kfk_producer_commit(producer, CALL_MS, error, sizeof(error))) == KFK_SENT_WAIT)
		{
			hear_events(outbox);
			mr_wait_latch(1);
		}
	MR_FAILPOINT("outbox.after_commit");
	if (sent == KFK_SENT_YES)
		return true;
	refused = kfk_producer_refused(producer, error, sizeof(error));
	if (refused >= 0 && refused < batch->n)
	{
		close_producer();
		kfk_outbox_bury(outbox, batch->ids[refused], mr_plain(error));
	}
	else
		give_up(outbox, sent, error);
	return false;
}

/* The leaf that comes next is emptied, if it can be. */
static void
rotate(void)
{
	static int64 emptied = -1;	/* the minute in which that was done */
	static TimestampTz tried = 0;
	TimestampTz now = GetCurrentTimestamp();

	if (now / USECS_PER_MINUTE == emptied || now - tried < ROTATE_MS * INT64CONST(1000))
		return;
	tried = now;
	MR_FAILPOINT("outbox.rotate");
	if (kfk_outbox_rotate((mr_outbox_leaf(now) + 1) % MR_OUTBOX_LEAVES))
		emptied = now / USECS_PER_MINUTE;
}

/* Commits are on disk when they return, whatever the configuration says by now. */
static void
commit_flushed(void)
{
	if (synchronous_commit < SYNCHRONOUS_COMMIT_REMOTE_FLUSH)
		SetConfigOption("synchronous_commit", "on", PGC_USERSET, PGC_S_SESSION);
}

/* The batch before this one, when the table says that it has left: so counters are what the table is. */
static void
count(const kfk_outbatch *batch, int64 busy_us)
{
	mr_work		work = {.messages = (uint64) batch->confirmed,.bytes = (uint64) batch->confirmed_bytes,.batches = 1,
		.busy_us = (uint64) Max(busy_us, 0)
	};

	mr_meter_add(&work);
	mr_worker_count(MR_COUNT_BATCHES, 1);
	mr_worker_count(MR_COUNT_ROWS, work.messages);
	mr_worker_count(MR_COUNT_BYTES, work.bytes);
}

static void
turn(kfk_outbox *outbox, kfk_outbatch *batch)
{
	static int64 busy_us = 0;	/* spent on sending the batch claimed last */
	bool		some;

	check_outbox(outbox);
	commit_flushed();
	if (producer == NULL)
	{
		open_producer(outbox);
		return;
	}
	hear_events(outbox);
	if (outbox->topics_due)
	{
		outbox->topics_due = false;
		kfk_outbox_topics(outbox, producer, false);
	}
	if (strcmp(told_topics, outbox->topics_reason) != 0)
		report_running(outbox);
	rotate();
	some = kfk_outbox_next(outbox, landed, batch);
	if (landed)
		count(batch, busy_us);
	landed = false;
	kfk_gauge_memory();
	if (some)
	{
		TimestampTz begun = GetCurrentTimestamp();

		landed = send_batch(outbox, batch);
		busy_us = GetCurrentTimestamp() - begun;
		if (landed)
			report_running(outbox);
		return;
	}
	pgstat_report_stat(true);
	mr_wait_latch(IDLE_MS);
}

/* Plans by the two indexes whatever the statistics say. */
static void
settle_session(void)
{
	SetConfigOption("enable_seqscan", "off", PGC_USERSET, PGC_S_SESSION);
	SetConfigOption("enable_bitmapscan", "off", PGC_USERSET, PGC_S_SESSION);
	SetConfigOption("plan_cache_mode", "force_generic_plan", PGC_USERSET, PGC_S_SESSION);
	SetConfigOption("jit", "off", PGC_USERSET, PGC_S_SESSION);
}

void
millrace_outbox_main(Datum arg)
{
	const mr_worker_args *args = mr_worker_begin(KFK_OUTBOX_TYPE);
	kfk_outbox	outbox = {0};
	kfk_outbatch batch = {0};
	MemoryContext cxt;
	volatile int failures = 0;

	before_shmem_exit(close_at_exit, 0);
	settle_session();
	cxt = AllocSetContextCreate(TopMemoryContext, "millrace turn", ALLOCSET_DEFAULT_SIZES);
	batch.cxt = AllocSetContextCreate(TopMemoryContext, "millrace batch", ALLOCSET_DEFAULT_SIZES);
	outbox.cxt = AllocSetContextCreate(TopMemoryContext, "millrace outbox", ALLOCSET_DEFAULT_SIZES);
	outbox.server = MemoryContextStrdup(outbox.cxt, args->name);
	outbox.generation = args->config;
	MemoryContextSwitchTo(cxt);
	if (!kfk_outbox_load(&outbox))
		proc_exit(0);
	kfk_outbox_report(&outbox, "starting", NULL, NULL);

	for (;;)
	{
		PG_TRY();
		{
			MemoryContextSwitchTo(cxt);
			MemoryContextReset(cxt);
			turn(&outbox, &batch);
			failures = 0;
		}
		PG_CATCH();
		{
			ErrorData  *error = mr_recover(cxt);

			close_producer();
			kfk_close_progress();
			landed = false;
			kfk_outbox_report(&outbox, "waiting", unpack_sql_state(error->sqlerrcode), error->message);
			failures++;
			mr_wait_latch(mr_pause_ms(failures));
		}
		PG_END_TRY();
	}
}
