output "service_accounts" {
  description = "Namespace, name and role of each service account; the role goes into its annotation eks.amazonaws.com/role-arn."
  value = {
    for workload, account in local.service_accounts : workload => {
      namespace = account.namespace
      name      = account.name
      role_arn  = aws_iam_role.this[workload].arn
    }
  }
}
