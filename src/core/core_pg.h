/*
 * core_pg.h
 *	  What every room's glue shares: environments, errors, GUC start-up.
 */
#ifndef MILLRACE_CORE_PG_H
#define MILLRACE_CORE_PG_H

#include "core/env.h"
#include "core/status.h"
#include "utils/palloc.h"

/*
 * An environment whose memory lives in cxt (current context if NULL).  Its
 * interrupted() only looks at the flags and never jumps, so it is safe within
 * foreign frames; after MR_CANCELED, mr_pg_raise() processes the interrupt.
 */
extern mr_env mr_pg_env(MemoryContext cxt);

/* ereport(ERROR) with the SQLSTATE of st->code; never returns. */
extern _Noreturn void mr_pg_raise(const mr_status *st);

/* SQLSTATE (packed) of a status code, for rows that record errors. */
extern int	mr_pg_sqlstate(mr_code code);

/* One per room, called by _PG_init in the order of the Makefile's ROOMS. */
extern void core_init(void);
extern void image_init(void);
extern void nn_init(void);
extern void learn_init(void);
extern void registry_init(void);
extern void text_init(void);
extern void stream_init(void);
extern void task_init(void);
extern void quality_init(void);
extern void gateway_init(void);
extern void pipelines_init(void);

#endif							/* MILLRACE_CORE_PG_H */
