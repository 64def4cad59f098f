/*
 * score_pg.h
 *	  BERTScore in the server: by what settings a model scores, and texts embedded
 *	  once for all the pairs they are in.
 */
#ifndef MILLRACE_TEXT_SCORE_PG_H
#define MILLRACE_TEXT_SCORE_PG_H

#include "text/bert_score.h"
#include "text/score_threshold.h"
#include "text/text_pg.h"

/* ---- score_settings_pg.c ---- */

typedef struct txt_score_settings
{
	int			layer;			/* 0 .. info.layers */
	int			max_tokens;		/* of a text, those of the template included */
	const char *idf_name;		/* "": each token counts the same */
	txt_idf		idf;
	bool		rescale;
	txt_score	baseline;
} txt_score_settings;

/*
 * What the model's specification says in its member "score", overridden by these
 * (NULL: nothing); in the current context.  Raises 22023 for what cannot be meant,
 * 42704 for weights or a baseline that are not stored.
 */
typedef struct txt_score_options
{
	int64		layer;			/* -1: not said */
	char	   *idf;			/* NULL: not said; "": none */
	JsonbValue	rescale;		/* jbvNull: not said */
} txt_score_options;
#define TXT_SCORE_OPTIONS_NONE {.layer = -1, .rescale = {.type = jbvNull}}
extern txt_score_settings *txt_score_settings_of(const txt_model *m, const txt_score_options *options);

/* At import: raises 22023 for keys and values of "score" (NULL: none) that cannot be meant. */
extern void txt_score_check(Jsonb *score, const txt_encoder_info *info);

/* The scale of millrace.score_calibrations for these settings, else the specification's; raises 55000 where there is none. */
extern txt_scale txt_scale_for(const txt_model *m, const txt_score_settings *s);

/* ---- score_catalog_pg.c: the tables, scanned without SPI or privilege ---- */

/* False: there is no such row. */
extern bool txt_read_idf(const char *name, txt_idf *out, char **model, int *vocabulary);
extern bool txt_read_baseline(const char *name, int version, int layer, txt_score *out);
extern bool txt_read_scale(const char *name, int version, int layer, const char *idf, txt_scale *out);

/* User's phrases into phrases[] (palloc'd), *refuses likewise; how many. */
extern int	txt_read_refusal_phrases(char ***phrase, bool **refuses);

/* ---- scorer_pg.c ---- */

typedef struct txt_scorer txt_scorer;
typedef struct txt_scored txt_scored;	/* a text of it */

/* Everything of it lives in a child of cxt; m and settings must outlive its use. */
extern txt_scorer *txt_scorer_create(MemoryContext cxt, const txt_model *m, const txt_score_settings *settings);
extern void txt_scorer_free(txt_scorer *s);
extern void txt_scorer_model(txt_scorer *s, const txt_model *m);	/* the same version, as this statement has it */

/* The text, known by its bytes, which are copied. */
extern txt_scored *txt_scorer_add(txt_scorer *s, text *t);

/* Those that are wanted and have no vectors yet are embedded together. */
extern void txt_scorer_want(txt_scorer *s, txt_scored *t);
extern void txt_scorer_embed(txt_scorer *s);
extern txt_score txt_scorer_score(txt_scorer *s, const txt_scored *candidate, const txt_scored *reference);

/* Not rescaled. */
extern txt_score txt_scorer_raw(txt_scorer *s, const txt_scored *candidate, const txt_scored *reference);

/* Uses to come, for those who count them: at 0 the text is forgotten. */
extern void txt_scorer_use(txt_scored *t);
extern void txt_scorer_used(txt_scorer *s, txt_scored *t);

/* Forget texts, the longest unused first, until so many bytes are left. */
extern void txt_scorer_trim(txt_scorer *s, Size bytes);

/* Bytes of texts that the next txt_scorer_embed() embeds, none counted for more than it may have. */
extern Size txt_scorer_waiting(const txt_scorer *s);

/* ---- score_idf_pg.c ---- */

/*
 * The rows of a caller's query, read-only, in batches of at most TXT_BATCH_ROWS: row for
 * each without a null, its values good until the batch's end, then batch (NULL: nothing).
 * Raises 42804 unless the columns are of the wanted types.
 */
#define TXT_BATCH_ROWS 512
typedef void (*txt_row_fn) (void *arg, const Datum *value);
typedef void (*txt_batch_fn) (void *arg);
extern void txt_read_rows(const char *query, int columns, const Oid *wanted, txt_row_fn row, txt_batch_fn batch, void *arg);

/* ---- score_measure_pg.c ---- */

extern const txt_model *txt_score_model_arg(FunctionCallInfo fcinfo, int arg);
extern char *txt_score_text_arg(FunctionCallInfo fcinfo, int arg, const char *what);	/* raises 22004 */
extern void txt_score_writes(const char *function);	/* raises 25006 */

/* Settings of a model that are not rescaled; layer -1 and idf NULL: the specification's. */
extern txt_score_settings *txt_raw_settings(const txt_model *m, int64 layer, const char *idf);

#endif							/* MILLRACE_TEXT_SCORE_PG_H */
