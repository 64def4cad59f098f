/*
 * text_pg.h
 *	  Encoders for this room's SQL functions: resolved through the registry,
 *	  mapped once for all sessions, run on texts of a database's encoding.
 */
#ifndef MILLRACE_TEXT_PG_H
#define MILLRACE_TEXT_PG_H

#include "core/compat.h"
#include "fmgr.h"
#include "registry/kind.h"
#include "text/encoder.h"
#include "text/spec_pg.h"

/* An encoder good until the end of the transaction. */
typedef struct txt_model
{
	const reg_model *reg;		/* reference, n_outputs = hidden */
	const txt_spec *spec;		/* the version's; spec->score: of functions that compare texts */
	txt_encoder encoder;		/* its info has the specification's words in it */
} txt_model;

extern const reg_room_kind txt_encoder_kind;

/*
 * The encoder that a SQL function's argument names (NULL: millrace.text_encoder),
 * remembered in flinfo->fn_extra as reg_resolve_arg() does.  Raises 42704 with the hint
 * "make models" where there is none, 22023 where the model is no encoder.
 */
extern const txt_model *txt_model_arg(FunctionCallInfo fcinfo, int argno);

/* The same for who keeps more in fn_extra: *memory is NULL at first, then in cxt. */
extern const txt_model *txt_model_site(void **memory, MemoryContext cxt, text *reference);

/* A text in UTF-8, whatever the database's encoding is; in the current context where it is converted. */
typedef struct txt_string
{
	const char *data;
	size_t		len;
} txt_string;
extern txt_string txt_string_of(text *t);

/*
 * Token vectors of texts: what txt_hidden() hands to its caller, text by text in any
 * order (sorted by length, packed to batches); a text's ids and rows are valid during the
 * call, which must not run a model itself.  hidden: n rows of info.hidden floats.
 */
typedef void (*txt_hidden_sink) (void *arg, int text, const txt_token *tokens, const int32_t *ids, int n, bool truncated,
								 const float *hidden);

/*
 * layer: as txt_encoder_run().  max_tokens of a text, those of the template included; 0: as
 * for embeddings; never more than the network takes.  Raises 54000 past
 * millrace.max_model_memory; serves interrupts.
 */
extern void txt_hidden(const txt_model *m, const txt_string *texts, int n, int layer, int max_tokens,
					   txt_hidden_sink sink, void *arg);

/* Tokens of a text, in buffers of this backend, good until the next call of anything here; max_tokens 0: no bound. */
extern txt_tokens txt_tokens_of(const txt_model *m, txt_string text, bool special, int max_tokens);

/* One vector a text, in any order; tokens: how many it was made of. */
typedef void (*txt_embedding_sink) (void *arg, int text, const float *embedding, int tokens, bool truncated);
extern void txt_embed(const txt_model *m, const txt_string *texts, int n, txt_embedding_sink sink, void *arg);

/*
 * One vector of a text of any length: of its pieces, each as long as the model embeds, the next
 * beginning overlap tokens before the end of the last; their mean, weighted by their tokens.
 * out takes info.hidden floats.  Raises 22023 where overlap leaves nothing.
 */
typedef struct txt_pieces
{
	int			n;
	int			tokens;			/* of the text, without the template's, that are in a piece */
	bool		truncated;		/* max_pieces did not hold all */
} txt_pieces;
extern txt_pieces txt_embed_pieces(const txt_model *m, txt_string text, int overlap, int max_pieces, float *out);

#endif							/* MILLRACE_TEXT_PG_H */
