/*
 * members.h
 *	  Reading the members one wants of a JSON object.
 */
#ifndef MILLRACE_TEXT_MEMBERS_H
#define MILLRACE_TEXT_MEMBERS_H

#include "core/json.h"

#define TXT_TEXT_SIZE 256		/* bytes that a text is cut to, with the NUL */

/* What an object's member is; null leaves what was there. */
typedef struct txt_member
{
	const char *name;
	enum
	{
		IS_BOOL,
		IS_TEXT,				/* char[TXT_TEXT_SIZE] */
		IS_NUMBER,				/* double */
		IS_ANYTHING				/* bool: it is there */
	}			kind;
	void	   *to;
} txt_member;

/* The object at p, wholly; other members are passed over.  False: the status says why. */
extern bool txt_read_members(mr_json *js, const txt_member *m, int n);

#endif							/* MILLRACE_TEXT_MEMBERS_H */
