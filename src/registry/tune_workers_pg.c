/*
 * tune_workers_pg.c
 *	  Parallel workers for the trials of a tuning.
 *
 * PostgreSQL's own parallel workers: they share the leader's transaction,
 * snapshot, role and settings, an error or a cancel of the leader ends them,
 * and theirs is raised in the leader.  The rows are read once, by the leader,
 * and lie in dynamic shared memory, so that no worker reads the query again and
 * all see the same.  Without a free worker, or without room in shared memory,
 * the leader does it all.
 *
 * Locks: none.  Cells are taken from an atomic counter and written by whoever
 * took them; the leader reads them after its workers have ended.
 */
#include "postgres.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "registry/progress.h"
#include "registry/tune.h"
#include "storage/dsm.h"
#include "storage/shm_toc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#define KEY_JOB 1

extern PGDLLEXPORT void millrace_tune_worker(dsm_segment *seg, shm_toc *toc);

/* The parts of a job behind its tune_shared, 64-byte aligned. */
typedef struct layout
{
	Size		columns,
				class_id,
				value,
				weight,
				categories,
				part,
				draw,
				active,
				params,
				class_weights,
				cell,
				size;
} layout;

/* In front of the block: what a worker cannot know else. */
typedef struct block_head
{
	tune_shared s;
	layout		at;
} block_head;

static Size
place(layout *at, Size bytes)
{
	Size		here = at->size;

	at->size += TYPEALIGN(64, bytes);
	return bytes ? here : 0;
}

static layout
lay_out(const tune_job *job)
{
	const tune_shared *s = job->s;
	Size		rows = (Size) s->rows;
	layout		at = {.size = TYPEALIGN(64, sizeof(block_head))};

	at.columns = place(&at, rows * (Size) s->cols * sizeof(float));
	at.class_id = place(&at, job->target.class_id ? rows * sizeof(int32) : 0);
	at.value = place(&at, job->target.value ? rows * sizeof(float) : 0);
	at.weight = place(&at, job->target.weight ? rows * sizeof(float) : 0);
	at.categories = place(&at, job->matrix.n_categories ? (Size) s->cols * sizeof(int32) : 0);
	at.part = place(&at, rows * sizeof(int32));
	at.draw = place(&at, rows * sizeof(uint32));
	at.active = place(&at, (Size) s->n_trials * sizeof(int32));
	at.params = place(&at, (Size) s->n_trials * sizeof(lrn_params));
	at.class_weights = place(&at, job->params[0].class_weights ? (Size) s->n_classes * sizeof(double) : 0);
	at.cell = place(&at, (Size) s->n_trials * (Size) s->folds * sizeof(tune_cell));
	return at;
}

/* The job as a process sees it in a block; its column pointers are its own. */
static void
point_into(block_head *block, tune_job *job)
{
	char	   *base = (char *) block;
	const layout *at = &block->at;
	float	  **col = palloc(Max(block->s.cols, 1) * sizeof(float *));

#define PART(type, member) (at->member ? (type *) (base + at->member) : NULL)
	for (int c = 0; c < block->s.cols; c++)
		col[c] = PART(float, columns) + (Size) c * (Size) block->s.rows;
	job->s = &block->s;
	job->matrix.rows = block->s.rows;
	job->matrix.cols = block->s.cols;
	job->matrix.col = col;
	job->matrix.n_categories = PART(int32, categories);
	job->target = (lrn_target) {PART(int32, class_id), block->s.n_classes, PART(float, value), PART(float, weight)};
	job->part = PART(int32, part);
	job->draw = PART(uint32, draw);
	job->active = PART(int32, active);
	job->params = PART(lrn_params, params);
	job->cell = PART(tune_cell, cell);
#undef PART
}

static void
copy_part(block_head *block, Size at, const void *from, Size bytes)
{
	if (at)
		memcpy((char *) block + at, from, bytes);
}

static void
move_job(tune_job *job, train_data *data, const layout *at, block_head *block)
{
	Size		rows = (Size) job->s->rows;
	Size		cols = (Size) job->s->cols;

	block->s = *job->s;
	block->at = *at;
	for (Size c = 0; c < cols; c++)
	{
		CHECK_FOR_INTERRUPTS();
		memcpy((char *) block + at->columns + c * rows * sizeof(float), job->matrix.col[c], rows * sizeof(float));
		pfree(data->matrix.col[c]);
	}
	copy_part(block, at->class_id, job->target.class_id, rows * sizeof(int32));
	copy_part(block, at->value, job->target.value, rows * sizeof(float));
	copy_part(block, at->weight, job->target.weight, rows * sizeof(float));
	copy_part(block, at->categories, job->matrix.n_categories, cols * sizeof(int32));
	copy_part(block, at->part, job->part, rows * sizeof(int32));
	copy_part(block, at->draw, job->draw, rows * sizeof(uint32));
	copy_part(block, at->active, job->active, job->s->n_trials * sizeof(int32));
	copy_part(block, at->params, job->params, job->s->n_trials * sizeof(lrn_params));
	copy_part(block, at->class_weights, job->params[0].class_weights, job->s->n_classes * sizeof(double));
	copy_part(block, at->cell, job->cell, (Size) job->s->n_trials * job->s->folds * sizeof(tune_cell));
	point_into(block, job);
	data->matrix.col = job->matrix.col;
}

/*
 * Is there room in shared memory?  The system may refuse it (a container's
 * /dev/shm is small), which is no reason to end; so it is tried and given back.
 */
static bool
has_room(Size size)
{
	MemoryContext cxt = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool room = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(cxt);
	PG_TRY();
	{
		dsm_segment *seg = dsm_create(size, DSM_CREATE_NULL_IF_MAXSEGMENTS);

		room = seg != NULL;
		if (seg)
			dsm_detach(seg);
		ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(cxt);
		CurrentResourceOwner = owner;
	}
	PG_CATCH();
	{
		ErrorData  *e;

		MemoryContextSwitchTo(cxt);
		e = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(cxt);
		CurrentResourceOwner = owner;
		if (e->sqlerrcode == ERRCODE_QUERY_CANCELED || e->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN)
			ReThrowError(e);
		FreeErrorData(e);
	}
	PG_END_TRY();
	return room;
}

ParallelContext *
tune_begin(tune_job *job, train_data *data, int workers)
{
	layout		at = lay_out(job);
	ParallelContext *pcxt;
	block_head *block;

	if (workers == 0)
		return NULL;
	if (!has_room(at.size))
	{
		ereport(WARNING,
				(errmsg("shared memory has no room for %zu MB of rows: the tuning goes on without workers", at.size >> 20),
				 errhint("Give /dev/shm more room, or see dynamic_shared_memory_type.")));
		return NULL;
	}
	EnterParallelMode();
	pcxt = CreateParallelContext("millrace", "millrace_tune_worker", workers);
	shm_toc_estimate_chunk(&pcxt->estimator, at.size);
	shm_toc_estimate_keys(&pcxt->estimator, 1);
	InitializeParallelDSM(pcxt);
	if (pcxt->nworkers == 0)
	{
		/* No segment was to be had. */
		tune_end(pcxt);
		return NULL;
	}
	block = shm_toc_allocate(pcxt->toc, at.size);
	move_job(job, data, &at, block);
	shm_toc_insert(pcxt->toc, KEY_JOB, block);
	return pcxt;
}

int
tune_rung(ParallelContext *pcxt, const tune_job *job, bool again)
{
	pg_atomic_write_u32(&job->s->next, 0);
	pg_atomic_write_u32(&job->s->finished, 0);
	if (pcxt == NULL)
	{
		tune_work(job);
		return 0;
	}
	if (again)
		ReinitializeParallelDSM(pcxt);
	LaunchParallelWorkers(pcxt);
	tune_work(job);
	WaitForParallelWorkersToFinish(pcxt);
	return pcxt->nworkers_launched;
}

void
tune_end(ParallelContext *pcxt)
{
	if (pcxt == NULL)
		return;
	DestroyParallelContext(pcxt);
	ExitParallelMode();
}

/* Entry of a worker. */
void
millrace_tune_worker(dsm_segment *seg, shm_toc *toc)
{
	block_head *block = shm_toc_lookup(toc, KEY_JOB, false);
	tune_job	job = {0};
	lrn_params *params;

	point_into(block, &job);
	/* Class weights are elsewhere here than in the leader. */
	params = palloc(block->s.n_trials * sizeof(lrn_params));
	memcpy(params, job.params, block->s.n_trials * sizeof(lrn_params));
	for (int t = 0; t < block->s.n_trials && block->at.class_weights; t++)
		params[t].class_weights = (const double *) ((char *) block + block->at.class_weights);
	job.params = params;
	reg_progress_begin("tune_model", block->s.model, lrn_algorithm_name(params[0].algorithm), block->s.leader);
	reg_progress_phase(REG_PHASE_TUNING);
	tune_work(&job);
	reg_progress_end();
}
