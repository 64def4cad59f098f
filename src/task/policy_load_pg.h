/*
 * policy_load_pg.h
 *	  millrace.retry_policies as policy.h has it.
 */
#ifndef MILLRACE_TASK_POLICY_LOAD_PG_H
#define MILLRACE_TASK_POLICY_LOAD_PG_H

#include "task/policy.h"

/* Read them.  Within SPI, as a role that may (mr_spi_begin()); ERROR if a row is of no use. */
extern void tsk_load_policies(tsk_policies *policies);

#endif							/* MILLRACE_TASK_POLICY_LOAD_PG_H */
