# SPDX-License-Identifier: Apache-2.0
"""A run on a cluster while it goes on and after: its states, why a step failed, its log.

Public face: get_state and RunState (states), follow, cancel and check_success (following), explain_failure (failures),
read_log (logs), StepPods (pods).
"""
