/*
 * outbox_state_pg.c
 *	  Around the batches of an outbox: dead letters, the leaf that is emptied,
 *	  and what the worker says of itself.
 *
 * Each function is a transaction of its own, made of fixed statements run as
 * the extension's owner.
 */
#include "postgres.h"

#include "stream/worker/outbox_worker.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/bufmgr.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "core/process_pg.h"
#include "core/shared_pg.h"
#include "core/spi_pg.h"
#include "stream/outbox.h"

/*
 * A message that the brokers will never take: put aside, and never read again.
 * A source's dead letter is read once more, without its value.
 */
void
kfk_outbox_bury(const kfk_outbox *outbox, int64 id, const char *error)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {TEXTOID, INT8OID, TEXTOID, INT8OID};
	Datum		args[] = {CStringGetTextDatum(outbox->server), Int64GetDatum(id), CStringGetTextDatum(error), Int64GetDatum(outbox->epoch)};
	mr_owner_save save;

	mr_begin("put a message aside");
	mr_spi_begin(&save);
	mr_prepare(&plan, "WITH mine AS (UPDATE millrace.outbox_progress SET dead = dead + 1 WHERE server = $1 AND epoch = $4 RETURNING server) "
			   "INSERT INTO millrace.outbox_dead_letters AS d (server, id, topic, key, value, headers, at, error, shortened) "
			   "SELECT m.server, m.id, m.topic, m.key, CASE WHEN NOT s.short THEN m.value END, m.headers, m.at, $3, s.short FROM millrace.outbox m CROSS JOIN mine, "
			   "LATERAL (SELECT coalesce(m.value IS NOT NULL AND m.headers[1] = '" KFK_LETTER_HEADER "'::bytea, false) AS short) s "
			   "WHERE m.server = mine.server AND m.id = $2 ON CONFLICT (server, id) DO UPDATE SET shortened = false, error = excluded.error", 4, types);
	SPI_execute_plan(plan, args, NULL, false, 0);
	mr_spi_end(&save);
	mr_commit();
	ereport(LOG, (errmsg("outbox of server \"%s\": message " INT64_FORMAT " was refused: %s", outbox->server, id, error)));
}

/*
 * Empty a leaf, if everything in it has left and nobody is at it.  Its lock
 * excludes transactions that have published into it and are still open.
 */
bool
kfk_outbox_rotate(int leaf)
{
	char		name[NAMEDATALEN];
	bool		empty;
	mr_owner_save save;
	Oid			oid;
	Relation	rel;

	snprintf(name, sizeof(name), "outbox_%d", leaf);
	mr_begin("rotate the outbox");
	mr_spi_begin(&save);
	oid = get_relname_relid(name, get_namespace_oid("millrace", false));
	empty = false;
	if (ConditionalLockRelationOid(oid, AccessExclusiveLock))
	{
		rel = table_open(oid, NoLock);
		empty = RelationGetNumberOfBlocks(rel) == 0;
		table_close(rel, NoLock);
		if (!empty)
		{
			SPI_execute(psprintf("SELECT 1 FROM millrace.outbox_progress p WHERE EXISTS (SELECT 1 FROM millrace.outbox_%d m WHERE m.server = p.server "
								 "AND m.xid >= pg_snapshot_xmax(p.done)) OR EXISTS (SELECT 1 FROM millrace.outbox_%d m WHERE m.server = p.server "
								 "AND m.xid = ANY (ARRAY(SELECT pg_snapshot_xip(p.done))))", leaf, leaf), false, 1);
			empty = SPI_processed == 0;
			if (empty)
				SPI_execute(psprintf("TRUNCATE millrace.outbox_%d", leaf), false, 0);
		}
	}
	mr_spi_end(&save);
	mr_commit();
	return empty;
}

static void
write_state(const void *subject, const char *state, const char *sqlstate, const char *reason)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {TEXTOID, INT4OID, TEXTOID, TEXTOID, TEXTOID};
	const kfk_outbox *outbox = subject;
	Datum		args[] = {CStringGetTextDatum(outbox->server), Int32GetDatum(MyProcPid), CStringGetTextDatum(state),
	mr_text(reason), mr_text(sqlstate)};
	mr_owner_save save;

	mr_spi_begin(&save);
	mr_run(&plan, "UPDATE millrace.outbox_progress SET pid = $2, since = CASE WHEN state = $3 AND pid = $2 THEN since ELSE now() END, "
		   "state = $3, reason = $4, sqlstate = $5, errors = errors + CASE WHEN $5 IS NULL THEN 0 ELSE 1 END, "
		   "last_error = CASE WHEN $5 IS NULL THEN last_error ELSE $4 END, last_error_at = CASE WHEN $5 IS NULL THEN last_error_at ELSE now() END "
		   "WHERE server = $1", lengthof(types), types, args);
	mr_spi_end(&save);
}

/* Say in outbox_progress what this worker is doing, and why; outside a transaction. */
void
kfk_outbox_report(const kfk_outbox *outbox, const char *state, const char *sqlstate, const char *reason)
{
	mr_tell(psprintf("outbox of server \"%s\"", outbox->server), psprintf("millrace outbox %s", outbox->server),
			outbox, write_state, state, sqlstate, reason);
}

/* Halt the outbox, with the reason for its users, and end this worker. */
void
kfk_outbox_halt(const kfk_outbox *outbox, const char *reason)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {TEXTOID, TEXTOID, INT8OID};
	Datum		args[] = {CStringGetTextDatum(outbox->server), CStringGetTextDatum(reason), Int64GetDatum(outbox->generation)};
	mr_owner_save save;

	mr_begin("halt");
	mr_spi_begin(&save);
	mr_run(&plan, "UPDATE millrace.outboxes SET state = 'halted', reason = $2, state_since = now(), generation = generation + 1 "
		   "WHERE server = $1 AND generation = $3 AND state = 'running'", lengthof(types), types, args);
	mr_spi_end(&save);
	mr_commit();
	kfk_outbox_report(outbox, "stopped", NULL, reason);
	proc_exit(0);
}
