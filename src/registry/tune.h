/*
 * tune.h
 *	  tune_model() within the room: the space of parameters, the trials, and
 *	  the processes that run them.
 */
#ifndef MILLRACE_REGISTRY_TUNE_H
#define MILLRACE_REGISTRY_TUNE_H

#include "learn/score.h"
#include "port/atomics.h"
#include "registry/catalog_pg.h"
#include "registry/train.h"
#include "utils/timestamp.h"

#define TUNE_MAX_TRIALS 10000
#define TUNE_MAX_FOLDS	100

/* ---- a tuning ---- */

typedef enum tune_search
{
	TUNE_RANDOM,
	TUNE_GRID,
	TUNE_HALVING
} tune_search;

extern const char *const tune_search_names[];

typedef struct tune_trial
{
	Jsonb	   *parameters;
	const char *state;			/* NULL: in the race */
	char	   *error;
	int			rung;			/* of scores */
	double		resource;		/* NaN: none */
	double	   *scores;			/* per fold; NULL: none yet */
	double		mean;
	double		sd;
	double		seconds;
} tune_trial;

typedef struct tuning
{
	const char *name;
	const char *query;
	const char *target;
	Jsonb	   *space;
	Jsonb	   *options;
	Jsonb	   *train_options;	/* those of them that are train_model()'s */
	train_options o;
	tune_search search;
	int64		n_trials;
	int64		folds;
	double		holdout;		/* 0: folds */
	bool		stratify;
	char	   *group;
	char	   *order;
	char	   *metric_name;
	lrn_score_kind metric;
	int64		seed;
	double		timeout;		/* seconds, 0: none */
	int64		max_memory;		/* bytes of a trial, 0: what train_memory leaves */
	int64		workers;
	int64		factor;
	char	   *resource;		/* "rows" or a parameter */
	double		min_resource;
	double		max_resource;
	int			rungs;
	tune_trial *trials;
	train_data *data;
	int			workers_launched;
	instr_time	start;
	TimestampTz started;
} tuning;

/* ---- tune_space_pg.c ---- */

typedef struct tune_space tune_space;

/* Raises 22023 for what describes no values. */
extern tune_space *tune_read_space(Jsonb *space);
extern bool tune_space_has(const tune_space *s, const char *parameter);

/* First parameter that is none of p's algorithm's; NULL: all are. */
extern const char *tune_unknown_parameter(const tune_space *s, const lrn_params *p);

/* All combinations, raises 54000 past TUNE_MAX_TRIALS and 22023 for a range
 * without a step; or up to n different ones drawn with the seed. */
extern Jsonb **tune_grid(const tune_space *s, int *n);
extern Jsonb **tune_draw(const tune_space *s, uint64 seed, int *n);

/* ---- tune_trial_pg.c ---- */

typedef enum tune_state
{
	TUNE_OPEN,
	TUNE_DONE,
	TUNE_FAILED,
	TUNE_TIMEOUT
} tune_state;

/* One fold of one trial. */
typedef struct tune_cell
{
	tune_state	state;
	double		score;
	double		seconds;
	char		error[256];
} tune_cell;

/* What all processes at work on a tuning see. */
typedef struct tune_shared
{
	int64		rows;
	int			cols;
	int			n_classes;
	int			folds;
	bool		ordered;		/* folds by time */
	int			n_trials;
	int			n_active;		/* trials of the rung at hand */
	double		share;			/* of the training rows it may use */
	lrn_score_kind metric;
	TimestampTz deadline;		/* 0: none */
	size_t		max_memory;		/* of a trial, beyond the rows */
	int			leader;			/* pid */
	char		model[REG_NAME_SIZE];
	pg_atomic_uint32 next;		/* (trial, fold) to be taken */
	pg_atomic_uint32 finished;
} tune_shared;

typedef struct tune_job
{
	tune_shared *s;
	lrn_matrix	matrix;
	lrn_target	target;
	const int32 *part;			/* of rows: lrn_split_role() */
	const uint32 *draw;			/* of rows: less than share of 2^32, it is used */
	int32	   *active;			/* trials of the rung */
	lrn_params *params;			/* of each trial */
	tune_cell  *cell;			/* trial x fold */
} tune_job;

/* Bytes that one process takes for the rows of a fold. */
extern size_t tune_fold_memory(const tune_job *job);

/* Take what is left of the rung's (trial, fold) and do it. */
extern void tune_work(const tune_job *job);

/* ---- tune_workers_pg.c ---- */

struct ParallelContext;

/*
 * Move the job into shared memory and get ready for workers; job->matrix points
 * there then, and the rows that data had are freed.  Returns NULL, and changes
 * nothing, where there can be no workers.  In parallel mode until tune_end().
 */
extern struct ParallelContext *tune_begin(tune_job *job, train_data *data, int workers);
/* A rung: launch workers (again), work, wait for them; returns how many there were. */
extern int	tune_rung(struct ParallelContext *pcxt, const tune_job *job, bool again);
/* Ends the workers; what is in shared memory is gone, the job's rows and cells too. */
extern void tune_end(struct ParallelContext *pcxt);

/* ---- tune_rungs_pg.c ---- */

/* How many rungs, so that the first has enough of the resource. */
extern void tune_plan_rungs(tuning *t);

/* Run them all: each trial has its state then. */
extern void tune_run_rungs(tuning *t, tune_job *job, struct ParallelContext *pcxt);

/* The resource of a rung into the active trials' parameters, or the share of rows. */
extern void tune_give_resource(const tuning *t, tune_job *job, int rung);

/* Raises 22023 where all trials failed, 57014 where none was through in time. */
extern int	tune_best_trial(const tuning *t);

/* ---- tune_write_pg.c ---- */

extern int64 tune_next_id(void);

/* The rows; a warning tells of trials that failed. */
extern void tune_write(const tuning *t, int64 id, int version, int best, const char *snapshot);

#endif							/* MILLRACE_REGISTRY_TUNE_H */
