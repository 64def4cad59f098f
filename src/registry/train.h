/*
 * train.h
 *	  What train_model() and tune_model() share: options, and from a trained
 *	  model to a version.
 */
#ifndef MILLRACE_REGISTRY_TRAIN_H
#define MILLRACE_REGISTRY_TRAIN_H

#include "portability/instr_time.h"
#include "registry/registry.h"
#include "registry/train_data.h"

/* What the options say beyond the algorithm's parameters. */
typedef struct train_options
{
	lrn_params	params;
	JsonbContainer *class_weight_object;	/* weights by label, or NULL */
	const char *weight;			/* column of sample weights, or NULL */
	bool		one_hot;		/* a column of 0 and 1 for each category */
	const reg_model *backbone;
	const reg_model *descriptors_of;
} train_options;

/* ---- train_options_pg.c ---- */

/* Raises 22023 for what is no option or parameter of the algorithm. */
extern void train_read_options(Jsonb *options, lrn_algorithm algorithm, train_options *out);

/* One parameter of the algorithm, as lrn_params_set(). */
extern mr_code train_set_param(lrn_params *p, const char *name, const JsonbValue *v, mr_status *st);

/* The object "class_weight" as weights by class id; does nothing without one. */
extern void train_class_weights(train_options *o, const train_data *data);

/* A task with a target has one, others none: 22004 and 22023. */
extern bool train_check_target(const lrn_params *p, const char *target);

/* ---- train_pg.c ---- */

/* Read as the options say, into the memory that millrace.train_memory allows. */
extern train_data *train_read_data(const train_options *o, train_request *request);

extern lrn_target train_target(const train_data *data);

/* A model's origin and its figures. */
typedef struct train_result
{
	const char *name;
	const char *query;
	const char *target;
	Jsonb	   *options;
	const char *snapshot;		/* pg_current_snapshot() of the query */
	const train_options *o;
	const train_data *data;
	const uint8 *bytes;
	size_t		size;
	lrn_report	report;
	double		read_seconds;
	double		train_seconds;
	double		cpu_seconds;	/* of reading and training */
	int64		tuning;			/* id in millrace.tunings, or 0 */
	double		score;			/* of the tuning; NaN: none */
	const char *metric;
} train_result;

/* Register it; returns the version. */
extern int	train_store(const train_result *r);

extern char *train_snapshot(void);

/* Seconds of the clock since start, and of this process's CPU so far. */
extern double train_seconds_since(instr_time start);
extern double train_cpu_seconds(void);

/* ---- train_onehot_pg.c ---- */

/* Replace columns of categories by one column of 0 and 1 for each value, none
 * of them 1 where it is missing.  Raises 54000 past limit bytes. */
extern void train_one_hot(train_data *data, Size limit);

#endif							/* MILLRACE_REGISTRY_TRAIN_H */
