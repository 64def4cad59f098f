/*
 * scope_pg.c
 *	  Acting for a pipeline: its owner's rights, cached plans, rows in bulk.
 *
 * Plans live in CacheMemoryContext for the life of the backend, one entry per
 * pipeline and statement; DDL invalidates them through the plan cache.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_type.h"
#include "core/core_pg.h"
#include "miscadmin.h"
#include "pipelines/pipelines.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/queryenvironment.h"
#include "utils/syscache.h"

typedef struct plan_key
{
	const char *text;			/* address of the static statement */
	Oid			namespace;
} plan_key;

typedef struct plan_entry
{
	plan_key	key;
	NameData	schema;			/* a renamed pipeline needs new plans */
	SPIPlanPtr	plan;
} plan_entry;

static HTAB *plans;

bool
pip_is_owner_of_schema(Oid namespace, Oid role)
{
	HeapTuple	tuple = SearchSysCache1(NAMESPACEOID, ObjectIdGetDatum(namespace));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		return false;
	owner = ((Form_pg_namespace) GETSTRUCT(tuple))->nspowner;
	ReleaseSysCache(tuple);
	return has_privs_of_role(role, owner);
}

/*
 * Become the owner of the pipeline.  expected_owner, where valid, is the owner
 * of the table whose trigger runs: schema and table must belong to the same
 * role, else whoever may create triggers on that table could have statements of
 * his own schema run with its owner's rights.
 */
void
pip_enter(pip_scope *scope, Oid namespace, Oid expected_owner)
{
	HeapTuple	tuple = SearchSysCache1(NAMESPACEOID, ObjectIdGetDatum(namespace));
	Form_pg_namespace row;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for namespace %u", namespace);
	row = (Form_pg_namespace) GETSTRUCT(tuple);
	if (OidIsValid(expected_owner) && row->nspowner != expected_owner)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("schema \"%s\" and the table with the trigger have different owners", NameStr(row->nspname)),
				 errhint("A pipeline's schema and its tables must belong to one role.")));
	GetUserIdAndSecContext(&scope->user, &scope->sec_context);
	SetUserIdAndSecContext(row->nspowner, scope->sec_context | SECURITY_LOCAL_USERID_CHANGE);
	scope->namespace = namespace;
	scope->guc_nest = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	SPI_connect();
	scope->name = pstrdup(NameStr(row->nspname));
	scope->schema = pstrdup(quote_identifier(NameStr(row->nspname)));
	scope->schema_literal = quote_literal_cstr(NameStr(row->nspname));
	ReleaseSysCache(tuple);
}

void
pip_leave(pip_scope *scope)
{
	SPI_finish();
	AtEOXact_GUC(true, scope->guc_nest);
	SetUserIdAndSecContext(scope->user, scope->sec_context);
}

void
pip_rows_begin(pip_rows *rows, const char *name, int ncolumns,
			   const char *const *columns, const Oid *types)
{
	EphemeralNamedRelation enr = palloc0(sizeof(EphemeralNamedRelationData));

	rows->name = name;
	rows->n = 0;
	rows->desc = CreateTemplateTupleDesc(ncolumns);
	for (int i = 0; i < ncolumns; i++)
		TupleDescInitEntry(rows->desc, i + 1, columns[i], types[i], -1, 0);
	rows->store = tuplestore_begin_heap(false, false, work_mem);
	enr->md.name = pstrdup(name);
	enr->md.reliddesc = InvalidOid;
	enr->md.tupdesc = rows->desc;
	enr->md.enrtype = ENR_NAMED_TUPLESTORE;
	enr->md.enrtuples = 1000;
	enr->reldata = rows->store;
	if (SPI_register_relation(enr) != SPI_OK_REL_REGISTER)
		elog(ERROR, "could not register relation \"%s\"", name);
}

void
pip_rows_add(pip_rows *rows, Datum *values, bool *nulls)
{
	tuplestore_putvalues(rows->store, rows->desc, values, nulls);
	rows->n++;
}

void
pip_rows_end(pip_rows *rows)
{
	SPI_unregister_relation(rows->name);
	tuplestore_end(rows->store);
}

/* @S@ → the pipeline's schema, @F@ → the schema of the extension's functions. */
static char *
expand(const pip_scope *scope, const char *text)
{
	StringInfoData out;

	initStringInfo(&out);
	for (; *text; text++)
	{
		if (strncmp(text, "@S@", 3) == 0 || strncmp(text, "@F@", 3) == 0)
		{
			appendStringInfoString(&out, text[1] == 'S' ? scope->schema : quote_identifier(pip_function_schema()));
			text += 2;
		}
		else
			appendStringInfoChar(&out, *text);
	}
	return out.data;
}

SPIPlanPtr
pip_plan(const pip_scope *scope, const char *text, int nargs, const Oid *types)
{
	plan_key	key;
	plan_entry *entry;
	bool		found;

	if (plans == NULL)
	{
		HASHCTL		ctl = {.keysize = sizeof(plan_key),.entrysize = sizeof(plan_entry),.hcxt = CacheMemoryContext};

		plans = hash_create("millrace pipeline plans", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	memset(&key, 0, sizeof(key));
	key.text = text;
	key.namespace = scope->namespace;
	entry = hash_search(plans, &key, HASH_FIND, &found);
	if (found && strcmp(NameStr(entry->schema), scope->name) == 0)
		return entry->plan;
	else
	{
		/* Prepare before entering: an ERROR must not leave an entry without a plan. */
		SPIPlanPtr	plan = SPI_prepare(expand(scope, text), nargs, (Oid *) types);

		if (plan == NULL)
			elog(ERROR, "could not prepare a statement of a pipeline: %s", SPI_result_code_string(SPI_result));
		SPI_keepplan(plan);
		if (found)
			SPI_freeplan(entry->plan);
		entry = hash_search(plans, &key, HASH_ENTER, &found);
		namestrcpy(&entry->schema, scope->name);
		entry->plan = plan;
		return plan;
	}
}

uint64
pip_run(const pip_scope *scope, const char *text, int nargs, const Oid *types,
		Datum *values, const char *nulls, int expected)
{
	int			ret = SPI_execute_plan(pip_plan(scope, text, nargs, types), values, nulls, false, 0);

	if (ret != expected)
		elog(ERROR, "unexpected SPI result %d from a statement of a pipeline", ret);
	return SPI_processed;
}

pip_source
pip_source_of(HeapTuple tuple, TupleDesc desc, int first_column)
{
	pip_source	source;

	source.topic = SPI_getbinval(tuple, desc, first_column, &source.topic_null);
	source.partition = DatumGetInt32(SPI_getbinval(tuple, desc, first_column + 1, &source.partition_null));
	source.offset = DatumGetInt64(SPI_getbinval(tuple, desc, first_column + 2, &source.offset_null));
	return source;
}

void
pip_offsets_add(pip_offsets *offsets, const pip_source *source)
{
	int			i;

	if (source->partition_null || source->offset_null)
		return;
	for (i = 0; i < offsets->n; i++)
		if (offsets->range[i].partition == source->partition)
			break;
	if (i == PIP_MAX_PARTITIONS)
		return;
	if (i == offsets->n)
	{
		offsets->range[i].partition = source->partition;
		offsets->range[i].first = offsets->range[i].last = source->offset;
		offsets->n++;
	}
	offsets->range[i].first = Min(offsets->range[i].first, source->offset);
	offsets->range[i].last = Max(offsets->range[i].last, source->offset);
}

char *
pip_offsets_json(const pip_offsets *offsets)
{
	StringInfoData out;

	if (offsets->n == 0)
		return NULL;
	initStringInfo(&out);
	for (int i = 0; i < offsets->n; i++)
		appendStringInfo(&out, "%c\"%d\": [" INT64_FORMAT ", " INT64_FORMAT "]", i ? ',' : '{',
						 offsets->range[i].partition, offsets->range[i].first, offsets->range[i].last);
	appendStringInfoChar(&out, '}');
	return out.data;
}

int64
pip_new_run(const pip_scope *scope, const char *stage, const char *profile, const char *model,
			const char *topic, const pip_offsets *offsets, int rows, TimestampTz started)
{
	static const char statement[] =
		"INSERT INTO @S@.runs (stage, profile, model_name, model_version, source_topic, source_offsets, rows, started_at, finished_at) "
		"VALUES ($1, $2, $3, $4, $5, $6::pg_catalog.jsonb, $7, $8, pg_catalog.clock_timestamp()) RETURNING run_id";
	static const Oid types[] = {TEXTOID, TEXTOID, TEXTOID, INT4OID, TEXTOID, TEXTOID, INT4OID, TIMESTAMPTZOID};
	const char *colon = strrchr(model, ':');
	char	   *json = pip_offsets_json(offsets);
	Datum		values[lengthof(types)];
	char		nulls[lengthof(types) + 1];
	bool		isnull;
	int64		run_id;

	if (colon == NULL)
		elog(ERROR, "model \"%s\" is not of the form name:version", model);
	memset(nulls, ' ', lengthof(types));
	nulls[lengthof(types)] = '\0';
	values[0] = CStringGetTextDatum(stage);
	values[1] = profile ? CStringGetTextDatum(profile) : (Datum) 0;
	nulls[1] = profile ? ' ' : 'n';
	values[2] = PointerGetDatum(cstring_to_text_with_len(model, colon - model));
	values[3] = Int32GetDatum(pg_strtoint32(colon + 1));
	values[4] = topic ? CStringGetTextDatum(topic) : (Datum) 0;
	nulls[4] = topic ? ' ' : 'n';
	values[5] = json ? CStringGetTextDatum(json) : (Datum) 0;
	nulls[5] = json ? ' ' : 'n';
	values[6] = Int32GetDatum(rows);
	values[7] = TimestampTzGetDatum(started);
	pip_run(scope, statement, lengthof(types), types, values, nulls, SPI_OK_INSERT_RETURNING);
	run_id = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_freetuptable(SPI_tuptable);
	return run_id;
}
