/*
 * share.h
 *	  A topic shared by several database servers: who holds which partition.
 *
 *	control_pg.c  the control topic: words said and heard
 *	lease_pg.c	  who rules, and whether our lease holds
 *	share_pg.c	  what becomes of our partitions
 *	share_row_pg.c	rows of source_shares
 *
 * The protocol, and why it loses and doubles nothing, is in docs/sharing.md.
 */
#ifndef MILLRACE_STREAM_SHARE_H
#define MILLRACE_STREAM_SHARE_H

#include "stream/worker/source.h"

/* A record of the control topic: what a server says of a partition. */
typedef struct kfk_word
{
	int32		partition;
	char	   *owner;			/* who says it: kfk_share_identity() there */
	int64		epoch;			/* of the tenure it claims or has */
	int64		claim;			/* where in the control topic that tenure was claimed; -1: here */
	int64		start;			/* first offset of the tenure */
	int64		next;			/* committed for certain up to here */
	int			lease_ms;
	bool		released;		/* the tenure is over, and ended before next */
	uint64		nonce;			/* tells this word from others of its owner */
	int64		offset;			/* where it was heard */
} kfk_word;

/* control_pg.c */
extern bool kfk_control_open(const kfk_source *source, char *error, size_t error_size);	/* outside a transaction */
extern void kfk_control_close(void);
extern bool kfk_control_say(const kfk_source *source, const kfk_word *word, char *error, size_t error_size);
typedef enum kfk_hearing
{
	KFK_HEARD,					/* *word is one */
	KFK_SILENCE,				/* nothing more now */
	KFK_DEAF					/* error says why; close and open again */
} kfk_hearing;
extern kfk_hearing kfk_control_hear(const kfk_source *source, kfk_word *word, char *error, size_t error_size);
extern const char *kfk_control_trouble(void);
extern bool kfk_control_at_end(void);	/* everything has been heard that was there when it was opened */

/* A partition of ours, as its row of source_shares has it; and what the control topic has said of it. */
typedef enum kfk_share_state
{
	KFK_TAKING,
	KFK_CLAIMED,				/* taking, and the control topic says that it is ours */
	KFK_OWNED,
	KFK_RELEASING,
	KFK_RELEASED,
	KFK_LOST
} kfk_share_state;

/* A moment, in milliseconds of two clocks: one that no setting of the time moves, one that runs while a virtual machine does not. */
typedef struct kfk_instant
{
	int64		boot;
	int64		real;
} kfk_instant;

typedef struct kfk_share
{
	int32		partition;
	kfk_share_state state;
	int64		epoch;			/* of our last tenure, 0: none */
	char	   *identity;		/* as whom we had it, NULL: none */
	int64		claim_epoch;	/* that we meant to claim last */
	bool		pending;		/* and perhaps have */
	bool		take_over;
	int64		from_offset;	/* -1: not given */
	bool		accept_duplicates;
	int64		next_offset;	/* as committed, -1: never read */
	int64		next_start;		/* where the tenure after ours began, as far as was heard; -1 */

	bool		known;			/* a word rules: that of the highest epoch, and of these the one claimed first */
	kfk_word	ruling;
	kfk_instant heard;			/* its last repetition */
	kfk_instant quiet_from;		/* we may begin quiet_ms after this: until then the owner before us may commit */
	int			quiet_ms;

	bool		said;			/* we have said something that was not heard yet */
	uint64		nonce;			/* of it */
	kfk_instant said_at;
	kfk_instant asked_at;		/* the first time since something was heard */
	bool		leased;
	kfk_instant lease_from;		/* when we said what gave us the lease */
	char		reason[512];	/* what it waits for */
} kfk_share;

/* lease_pg.c */
extern bool kfk_share_begin(const kfk_source *source, char *error, size_t error_size);
extern kfk_share *kfk_shares(int *n);	/* of this worker; NULL: the control topic is not open */
extern kfk_share *kfk_share_of(int32 partition);
extern const char *kfk_identity(void);
extern bool kfk_is_mine(const kfk_share *share);
extern bool kfk_lease_holds(const kfk_source *source, const kfk_share *share);
extern void kfk_say(const kfk_source *source, kfk_share *share, int64 epoch, int64 claim, int64 start, int64 next, bool released);
extern kfk_instant kfk_instant_now(void);
extern int64 kfk_at_most_since(kfk_instant then);
extern int64 kfk_at_least_since(kfk_instant then);
extern int	kfk_silence_of(int lease_ms);

/* share_row_pg.c; each is a transaction of its own.  False: the row or the source has changed, we are about to be told. */
extern kfk_share *kfk_load_shares(const kfk_source *source, int *n);	/* of this worker, in the current context */
extern bool kfk_note_claim(const kfk_source *source, const kfk_share *share, int64 epoch, int64 start, const char *doubled);
extern bool kfk_note_owned(const kfk_source *source, const kfk_share *share, const char *identity);
extern bool kfk_note_released(const kfk_source *source, const kfk_share *share);
extern bool kfk_note_promoted(const kfk_source *source, const kfk_share *share);
extern bool kfk_note_lost(const kfk_source *source, const kfk_share *share);
extern bool kfk_all_lost(const kfk_source *source);
extern void kfk_note_reason(const kfk_source *source, const kfk_share *share);

#endif							/* MILLRACE_STREAM_SHARE_H */
