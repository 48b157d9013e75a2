# SPDX-License-Identifier: Apache-2.0
"""What decides whether a run will go through, tried before anybody waits for a pod.

Public face: examine and check_quickly (doctor), Finding (finding). The other files are one subject each: the endpoint
and the object store as seen from here, the image's registry, the cluster's own settings, a pod that tries it from
inside.
"""
