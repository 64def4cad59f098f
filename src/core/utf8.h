/*
 * utf8.h
 *	  Is it UTF-8?
 */
#ifndef MILLRACE_UTF8_H
#define MILLRACE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* True if the bytes are UTF-8 without NUL. */
extern bool mr_utf8(const char *data, size_t len);

#endif							/* MILLRACE_UTF8_H */
