/*
 * exec_int.h
 *	  What the files of an executor share.
 *
 * exec_main_pg.c	its life, and the box
 * exec_run_pg.c	a request: the transaction, its role and settings, what is forgotten behind it
 * exec_role_pg.c	the role, and what ALTER ROLE set for it
 * exec_plan_pg.c	functions of routes: their arguments, plans
 * exec_bind_pg.c	values of a request become arguments
 * exec_value_pg.c	one value: text, bytes or JSON, into a type
 * exec_result_pg.c	the result becomes an answer, by its type
 * exec_reply_pg.c	an answer that a function wrote itself (millrace.http_response)
 * exec_error_pg.c	errors become answers
 */
#ifndef MILLRACE_GATEWAY_EXEC_INT_H
#define MILLRACE_GATEWAY_EXEC_INT_H

#include "gateway/gateway.h"

#include "executor/spi.h"
#include "fmgr.h"
#include "lib/ilist.h"
#include "lib/stringinfo.h"
#include "nodes/params.h"

/* How far a request came: whose fault an error is. */
typedef enum gw_stage
{
	GW_BEGIN,
	GW_FIND,					/* the function */
	GW_BIND,					/* its arguments */
	GW_RUN,
	GW_ANSWER,					/* its result */
	GW_COMMIT
} gw_stage;

/* The request under way. */
typedef struct gw_turn
{
	const gw_request *request;
	gw_stage	stage;
	const char *argument;		/* that is being converted */
	TimestampTz begun;
	int			limit_ms;
	bool		timed_out;
} gw_turn;

/* An answer, in the turn's memory; UTF-8. */
typedef struct gw_answer
{
	int			status;
	const char *type;			/* NULL: no body */
	const char *headers;		/* "Name: value\n"…, or NULL */
	const char *body;
	size_t		len;
	const char *poll;			/* NULL: this is the answer */
	int			again_ms;
	int			within_ms;
	char		sqlstate[6];
} gw_answer;

/* ---- functions of routes */

/* An input parameter. */
typedef struct gw_param
{
	char	   *name;			/* NULL: it has none */
	int			number;			/* among all, with those that are output only */
	Oid			type;
	Oid			base;			/* of domains */
	Oid			element;		/* of arrays, domains over them too; else InvalidOid */
	bool		structured;		/* composite or array, domains over them too: from JSON as json_to_record() does it */
	bool		variadic;
	bool		has_default;
	FmgrInfo	input;
	Oid			ioparam;
	FmgrInfo	element_input;
	Oid			element_ioparam;
	int16		element_len;
	bool		element_byval;
	char		element_align;
} gw_param;

/* What becomes of the result. */
typedef enum gw_shape
{
	GW_VOID,
	GW_AS_JSON,					/* json: a text that is JSON already */
	GW_AS_JSONB,
	GW_AS_TEXT,
	GW_AS_BYTES,
	GW_AS_RESPONSE
} gw_shape;

#define GW_MASK_WORDS 2			/* of 64 bits: FUNC_MAX_ARGS */

typedef struct gw_plan
{
	slist_node	node;
	uint64		given[GW_MASK_WORDS];	/* arguments that are not left to their defaults */
	SPIPlanPtr	plan;
} gw_plan;

/* As one role may call it; forgotten when the catalogue changes. */
typedef struct gw_function
{
	dlist_node	node;			/* newest use first */
	MemoryContext cxt;
	Oid			role;
	char	   *text;
	Oid			oid;
	uint32		proc_hash;		/* of the syscache entries that it was made from */
	int			n_types;
	uint32	   *type_hash;
	bool		stale;
	char	   *name;			/* schema.name, quoted */
	int			n;
	gw_param   *param;
	int			body;			/* takes the whole body; -1: none does */
	gw_shape	shape;
	bool		set;
	const char *media;			/* of a domain that is one, else NULL */
	int			n_plans;
	slist_head	plans;
} gw_function;

/* The function of a request, as the current role may call it; ERROR if it may not. */
extern gw_function *gw_find_function(const char *text, Oid role);
extern SPIPlanPtr gw_function_plan(gw_function *f, const uint64 *given, int *n, Oid *types);

/* "Arguments are a, b (optional)." */
extern char *gw_argument_list(const gw_function *f);

/* ---- arguments: values[] and nulls[] of those in given[] */
extern void gw_bind(gw_turn *turn, const gw_function *f, uint64 *given, Datum *values, bool *nulls);

static inline bool
gw_is_given(const uint64 *given, int i)
{
	return (given[i / 64] >> (i % 64)) & 1;
}

/* UTF-8 from a client, checked, as a C string in the server's encoding. */
extern char *gw_from_client(const char *p, size_t len);
extern Datum gw_value_text(const gw_param *p, const char *text, size_t len);
extern Datum gw_value_bytes(const gw_param *p, const char *bytes, size_t len);
extern Datum gw_value_texts(const gw_param *p, const gw_slice *slices, int n, const char *base, bool bytes);

/* raw: the JSON text of a value, syntax checked. */
extern Datum gw_value_json(const gw_param *p, const char *raw, size_t len, bool *null);

/* ---- results */

/* Run the plan as the current user; its result as the answer. */
extern void gw_run_plan(gw_turn *turn, const gw_function *f, SPIPlanPtr plan, ParamListInfo params, gw_answer *answer);
extern void gw_read_response(gw_turn *turn, Datum response, gw_answer *answer);
extern const char *gw_sniff(const unsigned char *bytes, size_t len);
extern const char *gw_to_client(const char *text, size_t *len);
extern void gw_check_size(const gw_turn *turn, size_t len);

/* ---- errors */

/* What the client is told of an error; true: the log has to tell more. */
extern bool gw_error_answer(const gw_turn *turn, const ErrorData *error, gw_answer *answer);

/* ---- a request */

/* ERROR if requests may not run as it, or not any more. */
extern void gw_check_role(Oid role);
extern void gw_apply_settings(Oid role);

/* Carry it out; the answer is in the current memory context. */
extern void gw_carry_out(const gw_request *request, gw_answer *answer);
extern void gw_run_init(void);

#endif							/* MILLRACE_GATEWAY_EXEC_INT_H */
