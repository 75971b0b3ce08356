"""What ``nnunet-semisam demo`` is made of: invented hearts, the commands a user types, and a report."""
