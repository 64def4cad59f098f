/*
 * base64.h
 *	  Base64 (RFC 4648), read: for messages, and for what model files embed.
 */
#ifndef MILLRACE_BASE64_H
#define MILLRACE_BASE64_H

#include <stddef.h>

/*
 * Both alphabets, padding optional.  Bytes written, at most len / 4 * 3 + 3, or
 * -1 if it is none; out may be where text is.
 */
extern long mr_base64_decode(const char *text, size_t len, unsigned char *out);

#endif							/* MILLRACE_BASE64_H */
