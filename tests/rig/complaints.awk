# SPDX-License-Identifier: GPL-2.0-or-later
#
# Prints what a kernel, the rig's or a guest's, never says when all is well.
#
#     awk -v dma_faults=yes|no -v warns=FUNCTION -f complaints.awk LOG
#
# "INFO:" is how hung tasks, RCU's stalls and some of lockdep's findings begin. A
# WARNING names the function that it comes from on its first line; the one from
# FUNCTION is allowed. A DMA fault means that the IOMMU refused a device's access.

# What a kernel says begins with its time, in a line that somebody else may have begun.
!match($0, /\[ *[0-9]+\.[0-9]+\] /) { next }

/WARNING: / && warns != "" && index($0, " " warns "+") { next }

/(BUG|INFO|WARNING|KASAN|UBSAN|refcount_t|Oops|Kernel panic)[: ]/ ||
/general protection fault|rcu:.*stall|soft lockup|blocked for more than/ {
    print
    next
}

/DMAR: (DRHD: handling fault|\[.*fault)|Event logged \[|virtio_iommu .* fault from EP/ && dma_faults == "no"
