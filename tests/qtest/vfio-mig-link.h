/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A link between two QEMUs that is no faster than one wants
 */
#ifndef TESTS_VFIO_MIG_LINK_H
#define TESTS_VFIO_MIG_LINK_H

#include "vfio-mig.h"

typedef struct VFIOMigLink VFIOMigLink;

/**
 * vfio_mig_link_begin: begin to move a guest over a link
 *
 * It carries @rate bytes per second from @from to @to, and what @to answers as
 * fast as it comes.  To be ended when the guest has moved.
 */
VFIOMigLink *vfio_mig_link_begin(VFIOMigSide *from, VFIOMigSide *to,
                                 uint64_t rate);
void vfio_mig_link_end(VFIOMigLink *link);

#endif /* TESTS_VFIO_MIG_LINK_H */
