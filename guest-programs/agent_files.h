/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Jobs on files and modules.
 */

#ifndef AGENT_FILES_H
#define AGENT_FILES_H

#include "agent_request.h"

int job_read(const struct request *request, struct text *reply);
int job_write(const struct request *request, struct text *reply);
int job_create(const struct request *request, struct text *reply);
int job_list(const struct request *request, struct text *reply);
int job_stat(const struct request *request, struct text *reply);
int job_stack(const struct request *request, struct text *reply);
int job_poll_file(const struct request *request, struct text *reply);
int job_insmod(const struct request *request, struct text *reply);
int job_rmmod(const struct request *request, struct text *reply);

#endif /* AGENT_FILES_H */
