/*
 * progress.h
 *	  What a training, tuning or evaluation at work shows to others:
 *	  millrace.training_progress.
 *
 * One at a time per process.  It is forgotten by reg_progress_end(), by the
 * abort of the (sub)transaction it began in, and by the end of the process.
 * All 32 slots taken: it works on, unseen.
 */
#ifndef MILLRACE_REGISTRY_PROGRESS_H
#define MILLRACE_REGISTRY_PROGRESS_H

typedef enum reg_phase
{
	REG_PHASE_READING,
	REG_PHASE_TRAINING,
	REG_PHASE_EVALUATING,
	REG_PHASE_TUNING,			/* a tuning's own process: iterations are trials */
	REG_PHASE_STORING
} reg_phase;

/* command: the function, "train_model"; algorithm may be NULL; leader: pid of
 * the tuning that this worker is of, or 0. */
extern void reg_progress_begin(const char *command, const char *model, const char *algorithm, int leader);
extern void reg_progress_end(void);

/* A phase begins: its rows, iterations and clock start anew (rows stay). */
extern void reg_progress_phase(reg_phase phase);
extern void reg_progress_rows(int64 rows);

/* An lrn_progress: at most every 20 ms it takes the lock; else it reads a clock. */
extern void reg_progress_step(void *unused, int64_t done, int64_t total, double loss);

/* From registry_init(). */
extern void reg_progress_init(void);

#endif							/* MILLRACE_REGISTRY_PROGRESS_H */
