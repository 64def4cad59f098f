/*
 * settings.h
 *	  The learning room's configuration parameters.
 */
#ifndef MILLRACE_LEARN_SETTINGS_H
#define MILLRACE_LEARN_SETTINGS_H

extern int	lrn_train_memory_kb;	/* millrace.train_memory */

#endif							/* MILLRACE_LEARN_SETTINGS_H */
