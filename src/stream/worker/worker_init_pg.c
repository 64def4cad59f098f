/*
 * worker_init_pg.c
 *	  The second library: everything that needs librdkafka.  Loaded by workers
 *	  and by millrace.peek(), never by an ordinary backend.
 */
#include "postgres.h"

#include "fmgr.h"

PG_MODULE_MAGIC;
