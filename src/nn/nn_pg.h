/*
 * nn_pg.h
 *	  The nn room's settings, for the glue of other rooms.
 */
#ifndef MILLRACE_NN_PG_H
#define MILLRACE_NN_PG_H

#include "nn/nn.h"

/* Options from millrace.isa, nn_max_model_bytes, nn_max_nodes, max_model_memory;
 * isa is resolved, never nn_isa_auto. */
extern nn_options nn_pg_options(void);

#endif							/* MILLRACE_NN_PG_H */
