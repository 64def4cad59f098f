/*
 * redrive_pg.c
 *	  redrive_dead_letters: dead letters are marked, and the source's workers run
 *	  them again (worker/dead_pg.c).
 *
 * A mark stands only on a message that lies before its partition's offset, so
 * that no worker will read it from Kafka too: rewind_source, which alone moves
 * offsets back, and drop_source take the marks away.  The new generation makes
 * the workers start anew, and see them.
 *
 * Locks: the source's row as its other functions do, then rows of dead_letters.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/spi_pg.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "stream/admin.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(millrace_redrive_dead_letters);

/*
 * A message may have died more than once (rewind_source): its newest letter
 * stands for it.  Those whose value was not kept, for its size, stay.
 */
#define MARK_SQL "UPDATE millrace.dead_letters SET redrive_at = pg_catalog.now() WHERE id IN (" \
	"SELECT d.id FROM millrace.dead_letters d JOIN millrace.sources s ON s.name = d.source AND s.topic = d.topic " \
	"JOIN millrace.source_offsets o ON o.source = d.source AND o.partition = d.partition " \
	"WHERE d.source = $1 AND d.redrive_at IS NULL AND d.\"offset\" < o.next_offset AND o.rewind_to IS NULL " \
	"AND (d.value IS NOT NULL OR d.value_bytes IS NULL) AND ($2 IS NULL OR d.id = ANY ($2)) " \
	"AND NOT EXISTS (SELECT FROM millrace.dead_letters n WHERE n.source = d.source AND n.partition = d.partition " \
	"AND n.\"offset\" = d.\"offset\" AND n.topic = d.topic AND n.id > d.id) ORDER BY d.id LIMIT $3)"

void
kfk_unmark_letters(const char *name)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(name)};

	kfk_run("UPDATE millrace.dead_letters SET redrive_at = NULL WHERE source = $1 AND redrive_at IS NOT NULL",
			1, types, values, NULL, SPI_OK_UPDATE);
}

/*
 * millrace.redrive_dead_letters(source text, ids bigint[] = NULL, at_most bigint = NULL, overwrite bool = false) -> bigint
 *
 * How many were marked; those that cannot be redriven, and those that wait for it already, are not among them.
 */
Datum
millrace_redrive_dead_letters(PG_FUNCTION_ARGS)
{
	Oid			types[] = {TEXTOID, INT8ARRAYOID, INT8OID};
	Datum		values[3];
	char		nulls[] = "   ";
	char	   *name;
	bool		overwrite = !PG_ARGISNULL(3) && PG_GETARG_BOOL(3);
	Oid			caller = GetUserId();
	mr_owner_save save;
	uint64		marked;

	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("name of a source must not be null")));
	if (!PG_ARGISNULL(2) && PG_GETARG_INT64(2) < 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("at_most must not be negative")));
	name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	for (int i = 0; i < 3; i++)
	{
		values[i] = PG_ARGISNULL(i) ? (Datum) 0 : PG_GETARG_DATUM(i);
		nulls[i] = PG_ARGISNULL(i) ? 'n' : ' ';
	}

	mr_spi_begin(&save);
	kfk_lock_source(name, caller);
	if (!overwrite &&
		kfk_run("SELECT FROM millrace.sources WHERE name = $1 AND (options ->> 'on_conflict' = 'update' OR options ->> 'tombstones' = 'delete')",
				1, types, values, NULL, SPI_OK_SELECT) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("dead letters of source \"%s\" could overwrite newer rows", name),
				 errdetail("Its option on_conflict or tombstones keeps one row a key, and messages that came after a dead letter may have made or deleted that row."),
				 errhint("overwrite => true redrives them nevertheless; ids => ... chooses which.")));
	marked = kfk_run(MARK_SQL, lengthof(types), types, values, nulls, SPI_OK_UPDATE);
	if (marked > 0)
		kfk_run("UPDATE millrace.sources SET generation = generation + 1, state = CASE state WHEN 'finished' THEN 'running' ELSE state END WHERE name = $1", 1, types, values, NULL, SPI_OK_UPDATE);
	mr_spi_end(&save);
	PG_RETURN_INT64((int64) marked);
}
