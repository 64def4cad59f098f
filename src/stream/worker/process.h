/*
 * process.h
 *	  What workers of every kind do as processes (core/process_pg.h), by this room's names.
 */
#ifndef MILLRACE_STREAM_PROCESS_H
#define MILLRACE_STREAM_PROCESS_H

#include "core/process_pg.h"

#define kfk_try_begin mr_try_begin
#define kfk_begin mr_begin
#define kfk_commit mr_commit
#define kfk_answer_server mr_answer_server
#define kfk_wait_latch mr_wait_latch
#define kfk_nap mr_nap
#define kfk_plain mr_plain
#define kfk_recover mr_recover
#define kfk_pause_ms mr_pause_ms
#define kfk_tell mr_tell
#define kfk_is_data_error mr_is_data_error

#endif							/* MILLRACE_STREAM_PROCESS_H */
