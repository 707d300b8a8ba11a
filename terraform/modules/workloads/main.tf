# One IAM role for each service account that talks to AWS, and what each may do. Whoever is not
# named here has no rights.

data "aws_partition" "current" {}

locals {
  speech = {
    # Stores audio and answers by reference; fetches models.
    serving = { read = ["artifacts"], write = ["audio"] }
    # Looks up what was answered, to hold a correction against it.
    feedback = { read = ["audio"], write = [] }
    # Follows the log; reads the model's reference, keeps what it decided.
    monitor = { read = ["audio"], write = ["artifacts"] }
    # torchrun: reads snapshots and features, writes checkpoints and bundles.
    training = { read = ["snapshots"], write = ["artifacts"] }
    # Steps of a pipeline run, erasure among them: the only one that deletes for good.
    pipeline = { read = [], write = ["audio", "snapshots", "artifacts", "events"] }
    mlflow   = { read = [], write = ["artifacts"] }
    feast    = { read = ["artifacts"], write = [] }
  }

  # Where the manifests put the service accounts: steps of pipelines run in KFP's own namespace.
  elsewhere = { pipeline = "kubeflow" }

  service_accounts = merge(
    { for workload in keys(local.speech) : workload => { namespace = lookup(local.elsewhere, workload, var.namespace), name = "hearloop-${workload}" } },
    {
      external-secrets   = { namespace = "external-secrets", name = "external-secrets" }
      cluster-autoscaler = { namespace = "kube-system", name = "cluster-autoscaler" }
    },
  )

  read_objects   = ["s3:GetObject", "s3:GetObjectVersion"]
  write_objects  = ["s3:PutObject", "s3:AbortMultipartUpload", "s3:DeleteObject"]
  delete_forever = ["s3:DeleteObjectVersion"]
  see_versions   = ["s3:ListBucketVersions"]

  speech_policies = {
    for workload, grants in local.speech : workload => concat(
      [
        {
          Sid      = "List"
          Effect   = "Allow"
          Action   = concat(["s3:ListBucket", "s3:GetBucketLocation"], workload == "pipeline" ? local.see_versions : [])
          Resource = [for holds in concat(grants.read, grants.write) : var.bucket_arns[holds]]
        },
        {
          Sid      = "Read"
          Effect   = "Allow"
          Action   = local.read_objects
          Resource = [for holds in concat(grants.read, grants.write) : "${var.bucket_arns[holds]}/*"]
        },
        {
          Sid      = "OpenTheKey"
          Effect   = "Allow"
          Action   = length(grants.write) > 0 ? ["kms:Decrypt", "kms:GenerateDataKey"] : ["kms:Decrypt"]
          Resource = [var.storage_key_arn]
        },
      ],
      [for holds in grants.write : {
        Sid      = "Write${title(holds)}"
        Effect   = "Allow"
        Action   = workload == "pipeline" ? concat(local.write_objects, local.delete_forever) : local.write_objects
        Resource = ["${var.bucket_arns[holds]}/*"]
      }],
    )
  }

  platform_policies = {
    external-secrets = [
      {
        Sid      = "ReadSecrets"
        Effect   = "Allow"
        Action   = ["secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret"]
        Resource = var.secret_arns
      },
      {
        Sid      = "OpenTheKey"
        Effect   = "Allow"
        Action   = ["kms:Decrypt"]
        Resource = [var.secrets_key_arn]
      },
    ]
    cluster-autoscaler = [
      {
        # None of these takes a resource: AWS lets a caller describe all or nothing.
        Sid    = "SeeWhatThereIs"
        Effect = "Allow"
        Action = [
          "autoscaling:DescribeAutoScalingGroups",
          "autoscaling:DescribeAutoScalingInstances",
          "autoscaling:DescribeLaunchConfigurations",
          "autoscaling:DescribeScalingActivities",
          "ec2:DescribeImages",
          "ec2:DescribeInstanceTypes",
          "ec2:DescribeLaunchTemplateVersions",
          "ec2:GetInstanceTypesFromInstanceRequirements",
        ]
        Resource = ["*"]
      },
      {
        # Labels and taints of a group that has no node: how it scales up from zero.
        Sid      = "SeeNodeGroups"
        Effect   = "Allow"
        Action   = ["eks:DescribeNodegroup"]
        Resource = ["arn:${data.aws_partition.current.partition}:eks:${var.region}:${var.account_id}:nodegroup/${var.cluster_name}/*/*"]
      },
      {
        Sid       = "ResizeNodeGroups"
        Effect    = "Allow"
        Action    = ["autoscaling:SetDesiredCapacity", "autoscaling:TerminateInstanceInAutoScalingGroup"]
        Resource  = ["arn:${data.aws_partition.current.partition}:autoscaling:${var.region}:${var.account_id}:autoScalingGroup:*:autoScalingGroupName/eks-*"]
        Condition = { StringEquals = { "aws:ResourceTag/eks:cluster-name" = var.cluster_name } }
      },
    ]
  }
}

resource "aws_iam_role" "this" {
  for_each = local.service_accounts

  name        = "${var.global_name}-${each.key}"
  description = "Service account ${each.value.namespace}/${each.value.name} of ${var.cluster_name}"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Federated = var.identity_provider.arn }
      Action    = "sts:AssumeRoleWithWebIdentity"
      Condition = {
        StringEquals = {
          "${var.identity_provider.issuer}:aud" = "sts.amazonaws.com"
          "${var.identity_provider.issuer}:sub" = "system:serviceaccount:${each.value.namespace}:${each.value.name}"
        }
      }
    }]
  })
}

resource "aws_iam_role_policy" "speech" {
  for_each = local.speech_policies

  name   = "buckets"
  role   = aws_iam_role.this[each.key].id
  policy = jsonencode({ Version = "2012-10-17", Statement = each.value })
}

resource "aws_iam_role_policy" "platform" {
  for_each = local.platform_policies

  name   = "platform"
  role   = aws_iam_role.this[each.key].id
  policy = jsonencode({ Version = "2012-10-17", Statement = each.value })
}
