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

#endif							/* MILLRACE_REGISTRY_TUNE_H */
