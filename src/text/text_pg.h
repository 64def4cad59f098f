/*
 * text_pg.h
 *	  Encoders for this room's SQL functions: resolved through the registry,
 *	  mapped once for all sessions, run on texts of a database's encoding.
 */
#ifndef MILLRACE_TEXT_PG_H
#define MILLRACE_TEXT_PG_H

#include "core/compat.h"
#include "fmgr.h"
#include "registry/registry.h"
#include "text/encoder.h"

/* An encoder good until the end of the transaction. */
typedef struct txt_model
{
	const reg_model *reg;		/* reference, n_outputs = hidden */
	txt_encoder encoder;
} txt_model;

/*
 * The encoder that a SQL function's argument names (NULL: millrace.text_encoder),
 * remembered in flinfo->fn_extra as reg_resolve_arg() does.  Raises 42704 with the hint
 * "make models" where there is none, 22023 where the model is no encoder.
 */
extern const txt_model *txt_model_arg(FunctionCallInfo fcinfo, int argno);

/* The same for who keeps more in fn_extra: reg_resolve_site(). */
extern const txt_model *txt_model_site(void **memory, MemoryContext cxt, text *reference);

/* A text in UTF-8, whatever the database's encoding is. */
typedef struct txt_string
{
	const char *data;
	size_t		len;
} txt_string;
extern txt_string txt_string_of(text *t);

/*
 * Token vectors of texts: what txt_hidden() hands to its caller, text by text in any
 * order (sorted by length, packed to batches); a text's ids and rows are valid during the call.
 */
typedef void (*txt_hidden_sink) (void *arg, int text, const txt_token *tokens, const int32_t *ids, int n, bool truncated,
								 const float *hidden);

/* layer: as txt_encoder_run().  special: with the template's tokens.  max_tokens 0: the model's. */
extern void txt_hidden(const txt_model *m, const txt_string *texts, int n, int layer, int max_tokens,
					   txt_hidden_sink sink, void *arg);

#endif							/* MILLRACE_TEXT_PG_H */
