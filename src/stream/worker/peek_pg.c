/*
 * peek_pg.c
 *	  millrace.peek(server, topic, n): the newest messages of a topic, read
 *	  without a group and without moving anybody's offsets.
 *
 * The only function of the worker library that runs in ordinary backends.  No
 * call into librdkafka waits longer than SLICE_MS, interrupts are looked at in
 * between, and PG_ENSURE_ERROR_CLEANUP ends the client and its threads on a
 * cancel as on a termination.  Memory: n messages, at most MAX_BYTES of them.
 */
#include "postgres.h"

#include "stream/worker/source.h"

#include "access/xact.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(millrace_peek);

#define SLICE_MS 100			/* longest wait without looking at interrupts */
#define MAX_MESSAGES 1000
#define PREFETCH_PEEK_KB 1024	/* per partition; a larger message still arrives, alone */
#define MAX_BYTES (64 * 1024 * 1024)

typedef struct peek
{
	kfk_client *client;
	kfk_message message;		/* taken, not yet released */
	const char *server;
	const char *topic;
	TimestampTz deadline;
} peek;

static void
peek_close(int code, Datum arg)
{
	peek	   *p = (peek *) DatumGetPointer(arg);

	if (p->client)
	{
		kfk_release(&p->message, 1);
		kfk_close(p->client);
		p->client = NULL;
	}
}

/* Answer interrupts; ERROR with what the brokers said last once time is up. */
static void
still_time(const peek *p, const char *error)
{
	CHECK_FOR_INTERRUPTS();
	if (GetCurrentTimestamp() >= p->deadline)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_UNABLE_TO_ESTABLISH_CONNECTION),
				 errmsg("could not read topic \"%s\" of server \"%s\" in time", p->topic, p->server),
				 errdetail("%s.", error[0] ? error : "No broker answered"),
				 errhint("Are the server's brokers right and running? A longer timeout can be given as the fourth argument.")));
}

/*
 * Where to begin in each partition so that together they have the newest n
 * messages or so, shared out evenly: offsets[i] to ends[i].  Compacted topics
 * give fewer.  Returns how many offsets there are in all.
 */
static int64
choose(peek *p, int partitions, int n, int64 *offsets, int64 *ends)
{
	char		error[512] = "";
	int64	   *lows = palloc(sizeof(int64) * partitions);
	int64		total = 0;
	bool		more = true;

	for (int i = 0; i < partitions; i++)
	{
		int64_t		low,
					high;

		while (!kfk_watermarks(p->client, p->topic, i, SLICE_MS, &low, &high, error, sizeof(error)))
			still_time(p, error);
		lows[i] = low;
		offsets[i] = ends[i] = high;
	}
	while (more && total < n)
	{
		more = false;
		for (int i = 0; i < partitions && total < n; i++)
			if (offsets[i] > lows[i])
			{
				offsets[i]--;
				total++;
				more = true;
			}
	}
	return total;
}

/* Bytes as text where they are text, else in hexadecimal as bytea shows them. */
static Datum
show(const void *data, size_t len, bool *null)
{
	*null = data == NULL;
	if (*null)
		return (Datum) 0;
	if (len <= MaxAllocSize / 4 && pg_verify_mbstr(GetDatabaseEncoding(), data, (int) len, true))
		return PointerGetDatum(cstring_to_text_with_len(data, (int) len));
	else
	{
		bytea	   *b = palloc(VARHDRSZ + len);
		Datum		hex;

		SET_VARSIZE(b, VARHDRSZ + len);
		memcpy(VARDATA(b), data, len);
		hex = CStringGetTextDatum(psprintf("\\x%s", TextDatumGetCString(DirectFunctionCall2(binary_encode, PointerGetDatum(b), CStringGetTextDatum("hex")))));
		pfree(b);
		return hex;
	}
}

/* One message as a row (partition, offset, time, key, value, headers). */
static void
put(ReturnSetInfo *result, const kfk_message *m)
{
	Datum		values[6] = {0};
	bool		nulls[6] = {false};
	StringInfoData headers;

	values[0] = Int32GetDatum(m->partition);
	values[1] = Int64GetDatum(m->offset);
	nulls[2] = m->time_ms < 0;
	values[2] = TimestampTzGetDatum(nulls[2] ? 0 : kfk_time(m->time_ms));
	values[3] = show(m->key, m->key_len, &nulls[3]);
	values[4] = show(m->value, m->value_len, &nulls[4]);
	initStringInfo(&headers);
	kfk_add_headers(&headers, m);
	nulls[5] = headers.len <= 2;
	if (!nulls[5])
		values[5] = DirectFunctionCall1(jsonb_in, CStringGetDatum(headers.data));
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

static void
read_newest(peek *p, int n, ReturnSetInfo *result)
{
	char		error[512] = "";
	int			partitions;
	int32	   *numbers;
	int64	   *offsets;
	int64	   *ends;
	int			open = 0;
	size_t		bytes = 0;
	int			assigned = 0;
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "millrace peek", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old;

	while (!kfk_describe(p->client, p->topic, SLICE_MS, &partitions, error, sizeof(error)))
		still_time(p, error);
	numbers = palloc(sizeof(int32) * Max(partitions, 1));
	offsets = palloc(sizeof(int64) * Max(partitions, 1));
	ends = palloc(sizeof(int64) * Max(partitions, 1));
	if (choose(p, partitions, n, offsets, ends) == 0)
		return;
	for (int i = 0; i < partitions; i++)
		if (offsets[i] < ends[i])
		{
			numbers[assigned] = i;
			offsets[assigned] = offsets[i];
			ends[assigned++] = ends[i];
		}
	if (!kfk_assign(p->client, p->topic, assigned, numbers, offsets, error, sizeof(error)))
		ereport(ERROR,
				(errcode(ERRCODE_FDW_ERROR),
				 errmsg("could not read topic \"%s\": %s", p->topic, error)));
	open = assigned;
	while (open > 0)
	{
		kfk_silence(p->client);
		while (open > 0 && kfk_take_messages(p->client, &p->message, 1) == 1)
		{
			kfk_message *m = &p->message;
			int			at = 0;

			while (at < assigned && numbers[at] != m->partition)
				at++;
			if (m->error)
				strlcpy(error, m->error, sizeof(error));
			else if (at < assigned && offsets[at] < ends[at])
			{
				if (!m->end && !m->lost && !m->missing && m->offset < ends[at])
				{
					bytes += m->key_len + m->value_len;
					if (bytes > MAX_BYTES)
					{
						ereport(WARNING,
								(errmsg("messages past %d MB are not shown", MAX_BYTES / (1024 * 1024))));
						return;
					}
					old = MemoryContextSwitchTo(cxt);
					put(result, m);
					MemoryContextSwitchTo(old);
					MemoryContextReset(cxt);
				}
				offsets[at] = m->end || m->lost || m->missing ? ends[at] : m->offset + 1;
				open -= offsets[at] >= ends[at];
			}
			kfk_release(m, 1);
			CHECK_FOR_INTERRUPTS();
		}
		if (open == 0)
			break;
		still_time(p, error);
		(void) WaitLatchOrSocket(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_SOCKET_READABLE | WL_EXIT_ON_PM_DEATH,
								 kfk_bell(p->client), SLICE_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
}

/*
 * millrace.peek(server text, topic text, n int = 10, timeout_ms int = 10000)
 *		-> setof (partition, offset, time, key, value, headers)
 */
Datum
millrace_peek(PG_FUNCTION_ARGS)
{
	peek	   *p = palloc0(sizeof(peek));
	int			n = PG_GETARG_INT32(2);
	int			timeout_ms = PG_GETARG_INT32(3);

	if (n < 1 || n > MAX_MESSAGES || timeout_ms < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("n must be between 1 and %d, and timeout_ms positive", MAX_MESSAGES)));
	InitMaterializedSRF(fcinfo, 0);
	p->server = text_to_cstring(PG_GETARG_TEXT_PP(0));
	p->topic = text_to_cstring(PG_GETARG_TEXT_PP(1));
	p->deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout_ms);
	PG_ENSURE_ERROR_CLEANUP(peek_close, PointerGetDatum(p));
	{
		p->client = kfk_open_server(p->server, "millrace-peek", PREFETCH_PEEK_KB);
		read_newest(p, n, (ReturnSetInfo *) fcinfo->resultinfo);
	}
	PG_END_ENSURE_ERROR_CLEANUP(peek_close, PointerGetDatum(p));
	peek_close(0, PointerGetDatum(p));
	return (Datum) 0;
}
