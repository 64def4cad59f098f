/*
 * submit_pg.c
 *	  submit_task(): a row of millrace.task_queue, in the caller's transaction.
 *
 * A task belongs to the current user, so within a SECURITY DEFINER function to
 * its owner; that role's workers carry it out and call its functions with that
 * role's rights.  Workers are never superusers.  What names say is looked up as
 * the caller; only the rows are the extension owner's.
 *
 * Memory: the caller's context.  Locks: ROW EXCLUSIVE on one leaf of the queue,
 * which keeps it from being emptied; with an order_key, until the end of the
 * transaction, the lock of (role, order_key): who comes second gets the later
 * id, and commits later.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "common/hashfn.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/timestamp.h"

#include "core/compat.h"
#include "core/shared_pg.h"
#include "core/spi_pg.h"
#include "task/http.h"
#include "task/jsonb_pg.h"
#include "task/submit.h"
#include "task/tasks.h"

PG_FUNCTION_INFO_V1(millrace_submit_task);

#define ORDER_LOCK 0x4d52		/* sets our advisory locks apart from the users', whose are 1 and 2 */
#define BYTES_PER_TOKEN 4		/* of prose, roughly; what a call takes in fact is counted when it has ended */
#define ANSWER_TOKENS 256		/* where a task does not limit its answer */

/* ---- ids */

/* RFC 9562, version 8: 48 + 12 bits of seq, 62 of chance. */
void
tsk_make_id(int64 seq, pg_uuid_t *id)
{
	uint64		high = ((uint64) seq << 4 & ~UINT64CONST(0xffff)) | UINT64CONST(0x8000) | ((uint64) seq & 0xfff);

	if (!pg_strong_random(id->data + 8, 8))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate random values")));
	for (int i = 0; i < 8; i++)
		id->data[i] = (unsigned char) (high >> (56 - 8 * i));
	id->data[8] = (unsigned char) ((id->data[8] & 0x3f) | 0x80);
}

double
tsk_id_chance(const pg_uuid_t *id)
{
	uint64		low = 0;

	for (int i = 9; i < 16; i++)
		low = low << 8 | id->data[i];
	return (double) (low >> 3) / (double) (UINT64CONST(1) << 53);
}

/* ---- what is asked for */

static Oid
owner_of_tasks(void)
{
	Oid			owner = GetUserId();

	if (superuser_arg(owner))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_ROLE_SPECIFICATION),
				 errmsg("superuser \"%s\" cannot own a task", GetUserNameFromId(owner, false)),
				 errdetail("Workers, and what they set off, would run with every right."),
				 errhint("SET ROLE to another role first, or call a SECURITY DEFINER function that belongs to one.")));
	return owner;
}

static char *
payload_string(Jsonb *payload, const char *base, const char *name)
{
	JsonbValue *v = tsk_member(payload, name);

	if (v == NULL || v->type != jbvString || v->val.string.len == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("payload of a task of base \"%s\" must be an object with \"%s\", a string", base, name)));
	return pnstrdup(v->val.string.val, v->val.string.len);
}

/* A server that owner may use, and that can do what base asks for. */
static const char *
check_server(const char *name, const char *base, Oid owner)
{
	ForeignServer *server = mr_find_server(name, "millrace_http");
	const char *api = mr_option_value(server->options, "api");
	bool		fetch = strcmp(base, "fetch") == 0;

	if (compat_server_aclcheck(server->serverid, owner, ACL_USAGE) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FOREIGN_SERVER, server->servername);
	if (api == NULL || (fetch ? strcmp(api, "local") == 0 : !mr_is_one_of(api, "ollama|openai|local")))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("server \"%s\" with api \"%s\" cannot carry out tasks of base \"%s\"", name, api ? api : "", base),
				 fetch ? errhint("Objects and addresses are fetched from any server with a url.") :
				 errhint("Providers are servers of wrapper millrace_http with api 'ollama', 'openai' or 'local'.")));
	return strcmp(api, "local") == 0 ? TSK_LANE_SQL : TSK_LANE_CALL;
}

/* Of weighted providers the one that a task of this id goes to. */
static void
draw_provider(tsk_wish *wish, const pg_uuid_t *id)
{
	double		sum = 0,
				at;
	int			i;

	for (i = 0; i < wish->n_providers; i++)
		sum += wish->weights[i];
	at = tsk_id_chance(id) * sum;
	for (i = 0; i < wish->n_providers - 1 && at >= wish->weights[i]; i++)
		at -= wish->weights[i];
	while (wish->weights[i] == 0)	/* the last ones, by rounding */
		i--;
	wish->providers[0] = wish->providers[i];
	wish->n_providers = 1;
}

/* Lane and name of the queue a task belongs to; all that it names exists, and its owner may use it. */
static const char *
find_queue(const tsk_kind *k, Jsonb *payload, tsk_wish *wish, const pg_uuid_t *id, Oid owner, const char **lane)
{
	static const Oid jsonb = JSONBOID;
	bool		asks = strcmp(k->base, "llm") == 0 || strcmp(k->base, "embed") == 0;

	if (!asks && wish->n_providers > 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("tasks of base \"%s\" have no provider", k->base)));
	if (strcmp(k->base, "sql") == 0)
	{
		char	   *name = k->function ? k->function : payload_string(payload, k->base, "function");
		char	   *found = tsk_check_function(name, 1, &jsonb, JSONBOID, owner);

		if (k->function == NULL && list_length(CompatQualifiedName(name)) < 2)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("function %s of a task is named without its schema", name),
					 errhint("Name it %s: a worker has its own search_path.", found)));
		*lane = TSK_LANE_SQL;
		return TSK_SQL_QUEUE;
	}
	if (strcmp(k->base, "fetch") == 0)
	{
		const char *server = payload_string(payload, k->base, "server");

		(void) payload_string(payload, k->base, "path");
		*lane = check_server(server, k->base, owner);
		return server;
	}
	if (wish->n_providers == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"provider\" is missing: a task of base \"%s\" needs one", k->base),
				 errhint("For example {\"provider\": \"ollama\"}, a server of wrapper millrace_http; several in an array are tried one after the other.")));
	if (strcmp(k->base, "llm") == 0 ? k->prompt == 0 && !tsk_member(payload, "prompt") && !tsk_member(payload, "messages") : !tsk_member(payload, "input"))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("payload of a task of base \"%s\" must be an object with %s", k->base,
						strcmp(k->base, "llm") == 0 ? "\"prompt\" or \"messages\"" : "\"input\"")));
	if (wish->weighted)
	{
		for (int i = 0; i < wish->n_providers; i++)
			(void) check_server(wish->providers[i], k->base, owner);
		draw_provider(wish, id);
	}
	for (int i = wish->n_providers - 1; i >= 0; i--)
		*lane = check_server(wish->providers[i], k->base, owner);
	return wish->providers[0];
}

/* Tokens that a call is likely to take, in and out. */
static int
estimate_tokens(const tsk_kind *k, Jsonb *payload)
{
	int			weight = (int) (VARSIZE(payload) + (size_t) k->prompt) / BYTES_PER_TOKEN;
	JsonbValue *options,
			   *most;

	if (strcmp(k->base, "embed") == 0)
		return weight;
	if (strcmp(k->base, "llm") != 0)
		return 0;
	options = tsk_member(payload, "options");
	most = options && options->type == jbvBinary ? getKeyJsonValueFromContainer(options->val.binary.data, "max_tokens", 10, NULL) : NULL;
	if (most && most->type == jbvNumeric)
	{
		double		n = DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow, NumericGetDatum(most->val.numeric)));

		return weight + (n > 0 && n < 1e8 ? (int) n : ANSWER_TOKENS);
	}
	return weight + ANSWER_TOKENS;
}

/* ---- rows; all of these as the extension's owner, within SPI */

/* Wait for other transactions that submit tasks of this role and key. */
static void
lock_order(Oid owner, const char *order_key)
{
	uint64		hash = hash_bytes_extended((const unsigned char *) order_key, (int) strlen(order_key), owner);
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) (hash >> 32), (uint32) hash, ORDER_LOCK);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
}

/*
 * Refuse a task if its role has more waiting than the quota.  They are counted
 * once for every hundredth of it only, and once a second while it is full: of a
 * quota of n tasks each one pays for looking at a hundred.
 */
static void
check_quota(Oid owner, Datum owner_name)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {TEXTOID, INT8OID};
	static struct
	{
		Oid			owner;
		int			quota;
		int			free;		/* more tasks until they are counted again */
		TimestampTz counted;
		int64		waiting;
	}			roles[16],
			   *known;
	TimestampTz now = GetCurrentTimestamp();

	if (tsk_quota == 0)
		return;
	known = &roles[owner % lengthof(roles)];
	if (known->owner != owner || known->quota != tsk_quota || now < known->counted || now > known->counted + 60 * USECS_PER_SEC ||
		(known->free <= 0 && (known->waiting < tsk_quota || now > known->counted + USECS_PER_SEC)))
	{
		Datum		args[] = {owner_name, Int64GetDatum(tsk_quota)};
		bool		null;

		mr_run(&plan, "SELECT count(*) FROM (SELECT 1 FROM millrace.task_queues q JOIN millrace.task_queue t ON t.queue = q.id "
			   "WHERE q.owner = $1 AND t.lease IS NULL LIMIT $2) t", lengthof(types), types, args);
		known->owner = owner;
		known->quota = tsk_quota;
		known->counted = now;
		known->waiting = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &null));
		known->free = known->waiting < tsk_quota ? Max((int) Min((tsk_quota - known->waiting) / 16, 10000), Max(tsk_quota / 100, 1)) : 0;
	}
	if (known->free-- <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("role \"%s\" has " INT64_FORMAT " tasks waiting, and its quota is %d", GetUserNameFromId(owner, false), known->waiting, tsk_quota),
				 errhint("Submit more when some have run, or have a superuser raise millrace.task_quota.")));
}

/* Make key stand for id, unless it stands for another task already: then *id becomes that one's, and the result is false. */
static bool
claim_key(Datum owner, Datum key, pg_uuid_t *id, TimestampTz now)
{
	static SPIPlanPtr claim = NULL;
	static SPIPlanPtr find = NULL;
	static const Oid types[] = {TEXTOID, TEXTOID, UUIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum		args[] = {owner, key, UUIDPGetDatum(id), TimestampTzGetDatum(now), TimestampTzGetDatum(now - tsk_key_retention_s() * USECS_PER_SEC)};
	bool		null;

	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		/* Of two at once the second waits here for the end of the first. */
		if (mr_run(&claim, "INSERT INTO millrace.task_keys AS k (owner, key, id, created_at) VALUES ($1, $2, $3, $4) "
				   "ON CONFLICT (owner, key) DO UPDATE SET id = excluded.id, created_at = excluded.created_at WHERE k.created_at <= $5",
				   lengthof(types), types, args) == 1)
			return true;
		/* It may be gone by now. */
		if (mr_run(&find, "SELECT id FROM millrace.task_keys WHERE owner = $1 AND key = $2", 2, types, args) == 1)
		{
			*id = *DatumGetUUIDP(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &null));
			return false;
		}
	}
}

/* The pool of a role and a queue of it, made at their first task; of two at once the second waits for the first. */
static void
make_queue(Datum owner, Datum lane, Datum name)
{
	Oid			types[] = {TEXTOID, TEXTOID, TEXTOID, TEXTOID};
	Datum		pool[] = {owner, CStringGetTextDatum(mr_source_binding())};
	Datum		queue[] = {owner, lane, name};

	/* Looked for first: an INSERT, even of nothing, wakes the supervisor. */
	SPI_execute_with_args("SELECT 1 FROM millrace.task_pools WHERE owner = $1", 1, types, pool, NULL, false, 1);
	if (SPI_processed == 0)
		SPI_execute_with_args("INSERT INTO millrace.task_pools (owner, bound_to) VALUES ($1, $2) ON CONFLICT (owner) DO NOTHING", 2, types, pool, NULL, false, 0);
	SPI_execute_with_args("INSERT INTO millrace.task_queues (owner, lane, name) VALUES ($1, $2, $3) ON CONFLICT (owner, lane, name) DO NOTHING",
						  3, types, queue, NULL, false, 0);
}

static Datum
text_array(char **strings, int n)
{
	Datum		values[TSK_MAX_PROVIDERS];

	for (int i = 0; i < n; i++)
		values[i] = CStringGetTextDatum(strings[i]);
	return n ? PointerGetDatum(construct_array(values, n, TEXTOID, -1, false, TYPALIGN_INT)) : (Datum) 0;
}

static void
append(Datum owner, const char *lane, const char *queue, Datum kind_name, const tsk_kind *k, Datum payload, tsk_wish *wish, const pg_uuid_t *id, TimestampTz now)
{
	static SPIPlanPtr plans[TSK_QUEUE_LEAVES];
	static const Oid types[] = {TEXTOID, TEXTOID, TEXTOID, UUIDOID, INT2OID, TEXTOID, TEXTOID, JSONBOID, TEXTOID, TEXTARRAYOID, INT4OID,
	TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, INT4OID, INT2OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID};
	TimestampTz due_at = wish->due_at ? wish->due_at : wish->delayed;
	Datum		args[] = {owner, CStringGetTextDatum(lane), CStringGetTextDatum(queue), UUIDPGetDatum(id), Int16GetDatum((int16) wish->priority),
		kind_name, CStringGetTextDatum(k->base), payload, CStringGetTextDatum(wish->tenant ? wish->tenant : ""),
		text_array(wish->providers, wish->n_providers), Int32GetDatum(estimate_tokens(k, DatumGetJsonbP(payload))),
		mr_text(wish->order_key), mr_text(wish->key), mr_text(wish->tag), mr_text(wish->deliver), mr_text(wish->watch),
		Int32GetDatum(wish->timeout_ms), Int16GetDatum((int16) wish->max_attempts), TimestampTzGetDatum(wish->deadline),
	TimestampTzGetDatum(now), TimestampTzGetDatum(due_at > now ? due_at : 0)};
	char		nulls[lengthof(types)];
	int			leaf = tsk_queue_leaf(now);

	for (int i = 0; i < (int) lengthof(types); i++)
		nulls[i] = args[i] == (Datum) 0 && types[i] != INT2OID && i != 10 ? 'n' : ' ';
	if (plans[leaf] == NULL)
		mr_prepare(&plans[leaf], psprintf("INSERT INTO millrace.task_queue_%d (leaf, queue, id, priority, kind, base, payload, tenant, providers, weight, "
										  "order_key, key, tag, deliver, watch, timeout_ms, max_attempts, deadline, created_at, due_at) "
										  "SELECT %d, q.id, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21 "
										  "FROM millrace.task_queues q WHERE q.owner = $1 AND q.lane = $2 AND q.name = $3", leaf, leaf), lengthof(types), types);
	SPI_execute_plan(plans[leaf], args, nulls, false, 0);
	if (SPI_processed == 0)
	{
		make_queue(args[0], args[1], args[2]);
		SPI_execute_plan(plans[leaf], args, nulls, false, 0);
		if (SPI_processed != 1)
			elog(ERROR, "a task could not be appended to its queue");
	}
}

/* millrace.submit_task(kind text, payload jsonb, options jsonb = '{}') -> uuid */
Datum
millrace_submit_task(PG_FUNCTION_ARGS)
{
	static const Oid told[] = {UUIDARRAYOID, TEXTARRAYOID, TEXTARRAYOID, JSONBARRAYOID, JSONBARRAYOID};
	static const Oid watches[] = {UUIDARRAYOID, TEXTARRAYOID, TEXTARRAYOID, JSONBARRAYOID, TIMESTAMPTZARRAYOID};
	Oid			owner = owner_of_tasks();
	pg_uuid_t  *id = palloc(sizeof(*id));
	tsk_wish	wish = TSK_NO_WISH;
	const tsk_kind *k;
	Jsonb	   *payload;
	const char *lane = TSK_LANE_SQL,
			   *queue;
	Datum		owner_name;
	TimestampTz now = tsk_now();
	mr_owner_save save;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("kind and payload of a task must not be null")));
	payload = PG_GETARG_JSONB_P(1);
	if (VARSIZE(payload) > (size_t) tsk_max_bytes)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("payload of a task has %zu bytes, and at most %d are allowed", (size_t) VARSIZE(payload), tsk_max_bytes),
				 errhint("A superuser may raise millrace.task_max_bytes; large contents are better named than carried.")));
	k = tsk_find_kind(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	tsk_read_options(k->options, now, &wish);
	if (!PG_ARGISNULL(2))
		tsk_read_options(PG_GETARG_JSONB_P(2), now, &wish);
	if (wish.deliver)
		wish.deliver = tsk_check_function(wish.deliver, lengthof(told), told, InvalidOid, owner);
	if (wish.watch)
		wish.watch = tsk_check_function(wish.watch, lengthof(watches), watches, InvalidOid, owner);
	owner_name = CStringGetTextDatum(GetUserNameFromId(owner, false));

	/* The lock comes before the id, so that ids of one order_key are in the order of commits. */
	if (wish.order_key)
		lock_order(owner, wish.order_key);
	tsk_make_id(nextval_internal(get_relname_relid("task_seq", get_namespace_oid("millrace", false)), false), id);
	queue = find_queue(k, payload, &wish, id, owner, &lane);
	mr_spi_begin(&save);
	if (wish.key == NULL || claim_key(owner_name, CStringGetTextDatum(wish.key), id, now))
	{
		check_quota(owner, owner_name);
		append(owner_name, lane, queue, PG_GETARG_DATUM(0), k, PointerGetDatum(payload), &wish, id, now);
		mr_change_at_commit(strcmp(lane, TSK_LANE_SQL) == 0 ? MR_CHANGE_TASKS : MR_CHANGE_CALLS, MyDatabaseId);
	}
	mr_spi_end(&save);
	PG_RETURN_UUID_P(id);
}
