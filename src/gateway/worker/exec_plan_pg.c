/*
 * exec_plan_pg.c
 *	  Functions of routes as this process knows them: arguments, and a kept plan for
 *	  each set of arguments that requests give.
 *
 * By function and role: a plan may have another function inlined that the role was allowed to
 * run when it was made.  What was read from the catalogue is forgotten when that changes.  A call
 * writes out every argument, those left to their defaults by the default's expression, so that an
 * overloaded function is never taken for another.
 *
 * Memory: a context a function under CacheMemoryContext, at most MAX_FUNCTIONS of them.
 */
#include "postgres.h"

#include "gateway/worker/exec_int.h"

#include "access/htup_details.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/syscache.h"

#include "core/compat.h"

#define MAX_FUNCTIONS 500
#define MAX_PLANS 50			/* of a function */

static dlist_head functions = DLIST_STATIC_INIT(functions);
static int	n_functions = 0;
static bool all_stale = false;

/* ---- what changes */

/* Callbacks only mark: the function may be running. */
static void
proc_changed(Datum arg, int cache, uint32 hash)
{
	dlist_iter	iter;

	dlist_foreach(iter, &functions)
	{
		gw_function *f = dlist_container(gw_function, node, iter.cur);

		if (hash == 0 || f->proc_hash == hash)
			f->stale = true;
	}
}

static void
type_changed(Datum arg, int cache, uint32 hash)
{
	dlist_iter	iter;

	dlist_foreach(iter, &functions)
	{
		gw_function *f = dlist_container(gw_function, node, iter.cur);

		for (int i = 0; i < f->n_types; i++)
			if (hash == 0 || f->type_hash[i] == hash)
				f->stale = true;
	}
}

/* Roles, memberships, schemas: rights. */
static void
rights_changed(Datum arg, int cache, uint32 hash)
{
	all_stale = true;
}

static void
watch_catalogue(void)
{
	static bool watching = false;

	if (watching)
		return;
	CacheRegisterSyscacheCallback(PROCOID, proc_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(TYPEOID, type_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHOID, rights_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHMEMMEMROLE, rights_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(NAMESPACEOID, rights_changed, (Datum) 0);
	watching = true;
}

static void
drop_plans(gw_function *f)
{
	slist_mutable_iter iter;

	slist_foreach_modify(iter, &f->plans)
		SPI_freeplan(slist_container(gw_plan, node, iter.cur)->plan);
	slist_init(&f->plans);
	f->n_plans = 0;
}

static void
drop_function(gw_function *f)
{
	drop_plans(f);
	dlist_delete(&f->node);
	n_functions--;
	MemoryContextDelete(f->cxt);
}

static void
drop_stale(void)
{
	dlist_mutable_iter iter;
	bool		all = all_stale;

	all_stale = false;
	dlist_foreach_modify(iter, &functions)
	{
		gw_function *f = dlist_container(gw_function, node, iter.cur);

		if (all || f->stale)
			drop_function(f);
	}
}

/* ---- reading the catalogue */

static void
note_type(gw_function *f, Oid type)
{
	f->type_hash[f->n_types++] = GetSysCacheHashValue1(TYPEOID, ObjectIdGetDatum(type));
}

static void
read_param(gw_function *f, gw_param *p, Oid type, const char *name)
{
	Oid			input;

	p->type = type;
	p->name = name && name[0] ? pstrdup(name) : NULL;
	p->base = getBaseType(type);
	p->element = get_base_element_type(type);
	p->structured = OidIsValid(p->element) || type_is_rowtype(p->base);
	if (get_typtype(p->base) == TYPTYPE_PSEUDO)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("function %s cannot answer requests: an argument of it has type %s", f->text, format_type_be(type))));
	getTypeInputInfo(type, &input, &p->ioparam);
	fmgr_info_cxt(input, &p->input, f->cxt);
	if (OidIsValid(p->element))
	{
		getTypeInputInfo(p->element, &input, &p->element_ioparam);
		fmgr_info_cxt(input, &p->element_input, f->cxt);
		get_typlenbyvalalign(p->element, &p->element_len, &p->element_byval, &p->element_align);
	}
	note_type(f, type);
}

/* Input parameters, in their order; defaults belong to the last of them. */
static void
read_params(gw_function *f, HeapTuple row)
{
	Form_pg_proc proc = (Form_pg_proc) GETSTRUCT(row);
	Oid		   *types;
	char	  **names;
	char	   *modes;
	int			n = get_func_arg_info(row, &types, &names, &modes);

	f->param = palloc0(sizeof(gw_param) * Max(n, 1));
	f->type_hash = palloc0(sizeof(uint32) * (n + 1));
	for (int i = 0; i < n; i++)
	{
		char		mode = modes ? modes[i] : PROARGMODE_IN;

		if (mode != PROARGMODE_IN && mode != PROARGMODE_INOUT && mode != PROARGMODE_VARIADIC)
			continue;
		read_param(f, &f->param[f->n], types[i], names ? names[i] : NULL);
		f->param[f->n].number = i + 1;
		f->param[f->n++].variadic = mode == PROARGMODE_VARIADIC;
	}
	for (int i = f->n - proc->pronargdefaults; i < f->n; i++)
		f->param[i].has_default = true;
	for (int i = 0; i < f->n; i++)
		if (f->param[i].name && strcmp(f->param[i].name, "body") == 0)
			f->body = i;
	/* as in PostgREST: a function of one argument without a name */
	if (f->n == 1 && f->param[0].name == NULL &&
		(f->param[0].base == JSONOID || f->param[0].base == JSONBOID || f->param[0].base == TEXTOID || f->param[0].base == BYTEAOID))
		f->body = 0;
}

/* A name of a domain that is a media type: type/subtype of the characters that those have. */
static bool
is_media_type(const char *name)
{
	const char *slash = strchr(name, '/');

	if (slash == NULL || slash == name || slash[1] == '\0' || strchr(slash + 1, '/') != NULL)
		return false;
	return strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$&^_.+-/") == strlen(name);
}

/* What the function gives, and what becomes of it. */
static void
read_result(gw_function *f, Form_pg_proc proc)
{
	Oid			type = proc->prorettype;
	HeapTuple	row = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	Form_pg_type form;
	char	   *schema;

	if (!HeapTupleIsValid(row))
		elog(ERROR, "cache lookup failed for type %u", type);
	form = (Form_pg_type) GETSTRUCT(row);
	schema = get_namespace_name(form->typnamespace);
	f->set = proc->proretset;
	if (form->typtype == TYPTYPE_DOMAIN && is_media_type(NameStr(form->typname)))
		f->media = pstrdup(NameStr(form->typname));
	if (!f->set && schema && strcmp(schema, "millrace") == 0 && strcmp(NameStr(form->typname), "http_response") == 0)
		f->shape = GW_AS_RESPONSE;
	else
		switch (getBaseType(type))
		{
			case VOIDOID:
				f->shape = f->set ? GW_AS_JSON : GW_VOID;
				break;
			case TRIGGEROID:
			case EVENT_TRIGGEROID:
			case INTERNALOID:
			case CSTRINGOID:
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("function %s cannot answer requests: it returns %s", f->text, format_type_be(type))));
				break;
			case JSONBOID:
				f->shape = f->set && f->media == NULL ? GW_AS_JSON : GW_AS_JSONB;
				break;
			case TEXTOID:
			case VARCHAROID:
			case BPCHAROID:
				f->shape = f->set && f->media == NULL ? GW_AS_JSON : GW_AS_TEXT;
				break;
			case BYTEAOID:
				f->shape = f->set && f->media == NULL ? GW_AS_JSON : GW_AS_BYTES;
				break;
			default:
				f->shape = GW_AS_JSON;
		}
	note_type(f, type);
	ReleaseSysCache(row);
}

static gw_function *
read_function(const char *text, Oid role)
{
	Oid			oid = DatumGetObjectId(DirectFunctionCall1(regprocedurein, CStringGetDatum(text)));
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "millrace function", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	HeapTuple	row = SearchSysCache1(PROCOID, ObjectIdGetDatum(oid));
	gw_function *f = palloc0(sizeof(gw_function));
	Form_pg_proc proc;

	if (!HeapTupleIsValid(row))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function %s does not exist", text)));
	proc = (Form_pg_proc) GETSTRUCT(row);
	if (proc->prokind != PROKIND_FUNCTION)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("%s is not a plain function", text)));
	f->cxt = cxt;
	f->role = role;
	f->text = pstrdup(text);
	f->oid = oid;
	f->proc_hash = GetSysCacheHashValue1(PROCOID, ObjectIdGetDatum(oid));
	f->body = -1;
	f->name = quote_qualified_identifier(get_namespace_name(proc->pronamespace), NameStr(proc->proname));
	read_params(f, row);
	read_result(f, proc);
	ReleaseSysCache(row);
	MemoryContextSwitchTo(old);
	return f;
}

gw_function *
gw_find_function(const char *text, Oid role)
{
	dlist_iter	iter;
	gw_function *f = NULL;

	watch_catalogue();
	drop_stale();
	dlist_foreach(iter, &functions)
	{
		gw_function *one = dlist_container(gw_function, node, iter.cur);

		if (one->role == role && strcmp(one->text, text) == 0)
		{
			f = one;
			dlist_move_head(&functions, &f->node);
			break;
		}
	}
	if (f == NULL)
	{
		f = read_function(text, role);
		if (n_functions == MAX_FUNCTIONS)
			drop_function(dlist_tail_element(gw_function, node, &functions));
		MemoryContextSetParent(f->cxt, CacheMemoryContext);
		dlist_push_head(&functions, &f->node);
		n_functions++;
	}
	if (compat_function_aclcheck(f->oid, role, ACL_EXECUTE) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FUNCTION, f->name);
	return f;
}

char *
gw_argument_list(const gw_function *f)
{
	StringInfoData list;
	const char *between = "";

	initStringInfo(&list);
	for (int i = 0; i < f->n; i++)
	{
		if (f->param[i].name == NULL)
			continue;
		appendStringInfo(&list, "%s%s%s", between, f->param[i].name, f->param[i].has_default || f->param[i].variadic ? " (optional)" : "");
		between = ", ";
	}
	return list.len > 0 ? psprintf("Arguments are %s.", list.data) : "It takes no arguments.";
}

/* ---- plans */

/*
 * Does a set come from FROM, where the planner may put a function's query in its place?  Elsewhere it is run as rows
 * are taken, which a set that is too large ends.
 */
static bool
belongs_in_from(const gw_function *f, HeapTuple row)
{
	Form_pg_proc proc = (Form_pg_proc) GETSTRUCT(row);

	/* a record of unknown columns cannot stand there */
	if (proc->prorettype == RECORDOID && get_func_result_type(f->oid, NULL, NULL) == TYPEFUNC_RECORD)
		return false;
	return proc->proretset && proc->prolang == SQLlanguageId && proc->provolatile != PROVOLATILE_VOLATILE && !proc->prosecdef &&
		!proc->proisstrict && heap_attisnull(row, Anum_pg_proc_proconfig, NULL);
}

/* The call: given arguments as parameters, others by their defaults. */
static char *
call_text(const gw_function *f, const uint64 *given)
{
	StringInfoData sql;
	int			k = 0;
	HeapTuple	row = SearchSysCache1(PROCOID, ObjectIdGetDatum(f->oid));
	bool		in_from;
	bool		convert;

	if (!HeapTupleIsValid(row))
		elog(ERROR, "cache lookup failed for function %u", f->oid);
	in_from = belongs_in_from(f, row);
	convert = f->shape == GW_AS_JSON && getBaseType(((Form_pg_proc) GETSTRUCT(row))->prorettype) != JSONOID;
	ReleaseSysCache(row);
	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT ");
	if (convert)
		appendStringInfoString(&sql, "pg_catalog.to_json(");
	if (in_from)
		appendStringInfo(&sql, "r%s FROM ", convert ? ")" : "");
	appendStringInfo(&sql, "%s(", f->name);
	for (int i = 0; i < f->n; i++)
	{
		const gw_param *p = &f->param[i];

		appendStringInfoString(&sql, i ? ", " : "");
		if (p->variadic)
			appendStringInfoString(&sql, "VARIADIC ");
		if (gw_is_given(given, i))
			appendStringInfo(&sql, "$%d", ++k);
		else if (p->has_default)
		{
			Datum		written = DirectFunctionCall2(pg_get_function_arg_default, ObjectIdGetDatum(f->oid), Int32GetDatum(p->number));

			appendStringInfo(&sql, "(%s)::%s", TextDatumGetCString(written), format_type_be_qualified(p->type));
		}
		else
			appendStringInfo(&sql, "'{}'::%s", format_type_be_qualified(p->type));
	}
	appendStringInfoChar(&sql, ')');
	if (in_from)
		appendStringInfoString(&sql, " r");
	else if (convert)
		appendStringInfoChar(&sql, ')');
	return sql.data;
}

/* The plan for these arguments, whose types and number are told. */
SPIPlanPtr
gw_function_plan(gw_function *f, const uint64 *given, int *n, Oid *types)
{
	slist_iter	iter;
	gw_plan    *kept;
	SPIPlanPtr	plan;

	*n = 0;
	for (int i = 0; i < f->n; i++)
		if (gw_is_given(given, i))
			types[(*n)++] = f->param[i].type;
	slist_foreach(iter, &f->plans)
	{
		kept = slist_container(gw_plan, node, iter.cur);
		if (memcmp(kept->given, given, sizeof(kept->given)) == 0)
			return kept->plan;
	}
	if (f->n_plans == MAX_PLANS)
		drop_plans(f);
	SPI_connect();
	plan = SPI_prepare(call_text(f, given), *n, types);
	if (plan == NULL)
		elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
	kept = MemoryContextAlloc(f->cxt, sizeof(gw_plan));
	memcpy(kept->given, given, sizeof(kept->given));
	SPI_keepplan(plan);
	kept->plan = plan;
	slist_push_head(&f->plans, &kept->node);
	f->n_plans++;
	SPI_finish();
	return plan;
}
