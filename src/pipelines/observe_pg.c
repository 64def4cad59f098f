/*
 * observe_pg.c
 *	  How long stages of pipelines take, for metrics: what SQL code observes.
 *
 * Series are few and everybody's, so only the owner of a pipeline is heard about
 * its stages, and core/series_pg.c gives one pipeline so many of them.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "core/series_pg.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "pipelines/pipelines.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(millrace_observe);

/* Is this schema in millrace.pipelines?  Asked once by a session, so a pipeline that was dropped may still be told of. */
static bool
is_pipeline(Oid namespace, const char *name)
{
	static HTAB *known;
	bool		found;

	if (known == NULL)
	{
		HASHCTL		ctl = {.keysize = sizeof(Oid),.entrysize = sizeof(Oid),.hcxt = TopMemoryContext};

		known = hash_create("millrace observed pipelines", 16, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	if (hash_search(known, &namespace, HASH_FIND, NULL))
		return true;
	SPI_connect();
	{
		static const Oid types[] = {TEXTOID};
		Datum		values[] = {CStringGetTextDatum(name)};

		if (SPI_execute_with_args("SELECT FROM millrace.pipelines WHERE name OPERATOR(pg_catalog.=) $1", 1, (Oid *) types, values, NULL, true, 1) != SPI_OK_SELECT)
			elog(ERROR, "could not read millrace.pipelines");
		found = SPI_processed > 0;
	}
	SPI_finish();
	if (found)
		(void) hash_search(known, &namespace, HASH_ENTER, NULL);
	return found;
}

/*
 * millrace.observe(pipeline text, stage text, seconds double precision, times bigint) -> boolean: was it counted?
 *
 * No errors: what a pipeline does must not fail because it is watched.
 */
Datum
millrace_observe(PG_FUNCTION_ARGS)
{
	char	   *pipeline = text_to_cstring(PG_GETARG_TEXT_PP(0));
	int64		times = PG_GETARG_INT64(3);
	Oid			namespace = get_namespace_oid(pipeline, true);

	if (times <= 0 || times > PG_INT32_MAX || !OidIsValid(namespace) || !pip_is_owner_of_schema(namespace, GetUserId()) ||
		!is_pipeline(namespace, pipeline))
		PG_RETURN_BOOL(false);
	mr_observe_at_commit(MR_STAGE_SECONDS, pipeline, text_to_cstring(PG_GETARG_TEXT_PP(1)), NULL, PG_GETARG_FLOAT8(2), (uint64) times);
	PG_RETURN_BOOL(true);
}
