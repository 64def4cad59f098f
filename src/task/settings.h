/*
 * settings.h
 *	  Names, defaults and bounds of the settings that both libraries read.
 */
#ifndef MILLRACE_TASK_SETTINGS_H
#define MILLRACE_TASK_SETTINGS_H

#define TSK_RETENTION "millrace.task_retention"
#define TSK_RETENTION_S (7 * 24 * 3600)
#define TSK_KEY_RETENTION "millrace.task_key_retention"
#define TSK_KEY_RETENTION_S (7 * 24 * 3600)
#define TSK_MIN_RETENTION_S 60
#define TSK_CLOCK_OFFSET "millrace.task_clock_offset_ms"
#define TSK_SECRET_DIRECTORY "millrace.secret_directory"
#define TSK_MAX_LIMITS "millrace.max_limits"
#define TSK_MAX_LIMITS_N 1024

#endif							/* MILLRACE_TASK_SETTINGS_H */
