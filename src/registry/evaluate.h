/*
 * evaluate.h
 *	  What evaluate_model(), cross_validate(), permutation_importance() and
 *	  partial_dependence() share: answers of a model to rows of a matrix, and
 *	  the figures of answers.
 */
#ifndef MILLRACE_REGISTRY_EVALUATE_H
#define MILLRACE_REGISTRY_EVALUATE_H

#include "learn/metrics.h"
#include "registry/registry.h"
#include "registry/train_data.h"

/* ---- answers (predictor_pg.c) ---- */

/* Something that answers n rows of d numbers with k: probabilities or a value. */
typedef struct eval_predictor
{
	int			d;
	int			k;
	bool		regression;
	void		(*answer) (void *arg, const float *rows, int64 n, float *out);
	void	   *arg;
	double		seconds;		/* spent in answer() so far */
} eval_predictor;

/*
 * A registered model: a classifier or regressor trained here, or a network
 * with labels that takes one array of numbers.  Answers of a network that are
 * no distribution are taken for logits.  Raises 22023 for any other model.
 */
extern void eval_predictor_of(const reg_model *m, eval_predictor *p);

/* A model that is not registered, mapped nowhere but here. */
extern void eval_predictor_of_learner(const lrn_model *m, eval_predictor *p);

/* Rows that are a network's answers already (train_request.images). */
extern void eval_predictor_of_answers(const reg_model *m, eval_predictor *p);

/* Rows of a matrix, perhaps with one feature changed. */
typedef struct eval_source
{
	float	   *const *col;
	int64		rows;
	const uint32 *row;			/* which of the columns' rows; NULL: the first */
	int			changed;		/* first column that reads otherwise, */
	int			width;			/* and how many do; 0: none */
	const uint32 *order;		/* their values come from these rows; NULL: */
	const float *constant;		/* all are these (width) */
} eval_source;

/* Answers by slices of rows, in order: out has n x k numbers. */
typedef void (*eval_take) (void *arg, int64 first, int64 n, const float *out);

extern void eval_run(eval_predictor *p, const eval_source *s, eval_take take, void *arg);

/* ---- figures (tally_pg.c) ---- */

/* Labels that a model knows and, behind them, those that only the rows have. */
typedef struct eval_labels
{
	const char **label;
	int			n;
	int			known;			/* the model's, in the order of its answers */
	int32	   *of_class;		/* class of the query -> label */
} eval_labels;

extern void eval_join_labels(const char *const *known, int n_known, const train_dictionary *of_rows,
							 eval_labels *out);

typedef struct eval_settings
{
	int			bins;			/* of calibration */
	int			errors;			/* worst rows to keep */
	int64		sample;			/* most rows for figures that need the order of scores */
	Size		memory;			/* bytes that those may take */
	uint64		seed;			/* of the sample */
} eval_settings;

#define EVAL_SETTINGS {.bins = 10,.sample = PG_INT64_MAX}

/* A row that was answered wrong. */
typedef struct eval_error
{
	int64		row;
	int			truth;			/* labels */
	int			predicted;
	double		value;			/* of a regression */
	double		answer;
	double		weight;			/* probability of what was predicted; |error| */
	double		given;			/* probability of what was true */
} eval_error;

typedef struct eval_tally
{
	const eval_labels *labels;	/* NULL: a regression */
	eval_settings set;
	mr_env		env;
	int64		rows;			/* to come and come */
	int64		seen;
	const int32 *class_id;		/* of the rows, or: */
	const float *value;
	const uint32 *row;			/* which row is the i-th; NULL: the i-th */
	lrn_confusion confusion;
	double		log_loss;
	double		brier;
	lrn_bin    *top;			/* bins of the highest probability */
	lrn_bin    *of_label;		/* known x bins */
	lrn_residuals residuals;
	eval_error *error;			/* a heap, the least of them first */
	int			n_errors;
	float	   *score;			/* sample x known: a sample of the answers */
	int32	   *score_truth;
	int64		sampled;
	int64		sample;
} eval_tally;

/* Figures of rows that are about to be answered; in the current context.
 * labels NULL: a regression, the truth is value. */
extern void eval_tally_begin(eval_tally *t, const eval_labels *labels, const eval_settings *set,
							 int64 rows, const int32 *class_id, const float *value, const uint32 *row);

/* An eval_take. */
extern void eval_tally_take(void *tally, int64 first, int64 n, const float *out);

/* What order the scores of one label have: rows with the label against all
 * others.  Good until the next call. */
extern bool eval_ranking(eval_tally *t, int label, lrn_ranking *r);

typedef struct eval_figures
{
	lrn_metrics m;
	lrn_class_metrics *per_class;
	double		log_loss;
	double		brier;
	double		calibration_error;
	double		roc_auc_macro;	/* one against the rest; NaN where it does not exist */
	double		roc_auc_weighted;
	double		pr_auc_macro;
	double		pr_auc_weighted;
	double	   *roc_auc;		/* per label */
	double	   *pr_auc;
	lrn_residuals residuals;
	bool		regression;
	int64		rows;
} eval_figures;

extern void eval_figures_of(eval_tally *t, eval_figures *f);

/* The figures as jsonb, and those of each label. */
extern Jsonb *eval_figures_json(const eval_tally *t, const eval_figures *f);
extern Jsonb *eval_per_class_json(const eval_tally *t, const eval_figures *f);

/* Labels and counts; NULL past 200 labels. */
extern Jsonb *eval_confusion_json(const eval_tally *t);

/* Worst rows first. */
extern void eval_sort_errors(eval_tally *t);

/* One figure by its name in eval_figures_json(); raises 22023 with the names. */
extern double eval_figure(const eval_figures *f, const char *name);

/* +1: more is better; -1: less is. */
extern int	eval_figure_sign(const char *name);

#endif							/* MILLRACE_REGISTRY_EVALUATE_H */
