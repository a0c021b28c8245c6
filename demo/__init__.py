"""The whole main job on this machine: fakes of U8 and a CRM, three flows, faults on the way."""
